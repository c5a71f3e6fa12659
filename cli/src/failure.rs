//! How the program fails: with bad data or with bad usage.

use crate::files::FileError;

/// What ends the program early, in one line.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A file, a device or a value at fault: exit status 1.
    Data(String),
    /// Options out of range or at odds with each other: exit status 2, as the argument parser has it.
    Usage(String),
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::Data(error.to_string())
    }
}

impl From<xent::Error> for Failure {
    fn from(error: xent::Error) -> Self {
        match error {
            xent::Error::Option { .. } | xent::Error::Combination(_) | xent::Error::Axis { .. } => {
                Self::Usage(error.to_string())
            }
            // The reader is the program's own, and has named the file.
            xent::Error::Read { reason, .. } => Self::Data(reason),
            other => Self::Data(other.to_string()),
        }
    }
}
