//! Arrays in files: `.npy`, members of `.npz`, tensors of `.safetensors`.
//!
//! A [`Source`] is opened once, its header checked against the file's length, and then read window by window with
//! positioned reads, so that memory stays constant however large the file and several threads may read at once.
//! [`NpyWriter`] streams results the other way; its file appears complete or not at all.
//!
//! | file | subject |
//! | --- | --- |
//! | `dtype.rs` | element types, bytes into numbers |
//! | `npy.rs` | the header of `.npy` |
//! | `npz.rs`, `safetensors.rs` | where an array lies inside a container |
//! | `source.rs` | opening: which file, which array, is it all there |
//! | `gather.rs` | any window of any strides in few reads |
//! | `read.rs` | the windows that the program asks for |
//! | `floats.rs`, `labels.rs` | windows in the types that the library takes, which are the file's own where it has them |
//! | `write.rs` | arrays as output |
//! | `whole.rs` | output of any kind, in one piece |

mod dtype;
mod floats;
mod gather;
mod labels;
mod npy;
mod npz;
mod read;
mod safetensors;
mod source;
#[cfg(test)]
mod tests;
mod unfinished;
mod whole;
mod write;

use std::fmt;

pub(crate) use floats::{FloatReader, FloatRows};
pub(crate) use labels::Labels;
pub(crate) use source::Source;
pub(crate) use whole::WholeFile;
pub(crate) use write::NpyWriter;

/// Anything wrong with a file, as one line that names the file, the place (counted from 0) and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileError(String);

impl FileError {
    /// `file: problem`, on one line whatever bytes a name or a header held.
    pub(crate) fn new(file: impl fmt::Display, problem: impl fmt::Display) -> Self {
        let text = format!("{file}: {problem}");
        if !text.contains(char::is_control) {
            return Self(text);
        }
        let mut line = String::with_capacity(text.len());
        for c in text.chars() {
            if c.is_control() {
                line.extend(c.escape_default());
            } else {
                line.push(c);
            }
        }
        Self(line)
    }

    /// `file: row N: problem`.
    pub(crate) fn at_row(file: impl fmt::Display, row: usize, problem: impl fmt::Display) -> Self {
        Self::new(file, format_args!("row {row}: {problem}"))
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FileError {}

/// The start of a text out of a file, quoted: whatever a hostile header holds, the message stays readable.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return format!("'{text}'");
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("'{start}…'")
}

/// A shape as people write it, `[2, 3]`, cut after the first eight lengths.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    const MOST: usize = 8;
    if shape.len() <= MOST {
        format!("{shape:?}")
    } else {
        let start = format!("{:?}", &shape[..MOST]);
        format!("{}, … {} axes]", start.trim_end_matches(']'), shape.len())
    }
}

/// The first few names of a list, for a message.
fn names_text(names: &[String]) -> String {
    const MOST: usize = 5;
    let first: Vec<_> = names.iter().take(MOST).map(|name| excerpt(name)).collect();
    match names.len().saturating_sub(MOST) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
