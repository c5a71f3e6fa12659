//! What can go wrong, each with the place and the value at fault.

/// The errors of this crate. Rows and classes in messages are counted from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option, of a loss or of what is to be computed, is out of its range.
    #[error("{option} is {value}: {rule}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What it was set to.
        value: f64,
        /// What it must be.
        rule: &'static str,
    },
    /// Two options, or an option and the kind of input, that make no sense together.
    #[error("{0}")]
    Combination(&'static str),
    /// Shapes that do not fit together, or a number of classes that no row may have.
    #[error("{what} of shape {found:?} where {wanted} is needed")]
    Shape {
        /// Which array.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What would fit.
        wanted: String,
    },
    /// A class axis that the predictions do not have.
    #[error("axis {axis} of predictions with {dimensions} dimensions")]
    Axis {
        /// The axis asked for; negative ones count from the end.
        axis: isize,
        /// How many there are.
        dimensions: usize,
    },
    /// A class index outside of the classes.
    #[error("row {row}: class index {label} is not among the {classes} classes")]
    Label {
        /// The row.
        row: u64,
        /// The index found there.
        label: i128,
        /// The number of classes.
        classes: usize,
    },
    /// A sample weight or a class weight that is negative, NaN or infinite.
    #[error("{what} {index}: the weight {value} is not a finite number of at least 0")]
    Weight {
        /// "row" for sample weights, "class" for class weights.
        what: &'static str,
        /// Where.
        index: u64,
        /// The weight.
        value: f64,
    },
    /// An adapter that is there, but opens no device.
    #[error("{adapter} refuses a device: {reason}")]
    Refused {
        /// The adapter's name.
        adapter: String,
        /// What the driver said.
        reason: String,
    },
    /// A sample weight or the weights' sum for which a row's gradient would be multiplied with no float32.
    #[error("row {row}: its gradient would be multiplied with {factor}, which is no finite float32")]
    RowScale {
        /// Where.
        row: u64,
        /// The row's weight times what the gradient is scaled with.
        factor: f64,
    },
    /// Rows that a [`Reader`](crate::Reader) could not read.
    #[error("rows {first} to {last} cannot be read: {reason}")]
    Read {
        /// The first of the rows that were asked for.
        first: u64,
        /// The last one.
        last: u64,
        /// What the reader said.
        reason: String,
    },
    /// No adapter fits the request.
    #[error("no GPU adapter: {0}")]
    NoAdapter(String),
    /// A row of which not even a part fits into one binding of the device.
    #[error("a row of {classes} classes takes {bytes} bytes, a binding of {adapter} holds {limit}")]
    RowTooLarge {
        /// Classes of the row.
        classes: usize,
        /// Bytes of the row.
        bytes: u64,
        /// The largest storage binding of the device.
        limit: u64,
        /// The device.
        adapter: String,
    },
    /// The device was lost, or the GPU refused the work.
    #[error("the GPU failed at row {row}: {reason}")]
    Gpu {
        /// First row of the window at fault.
        row: u64,
        /// What the driver said.
        reason: String,
    },
    /// A buffer that a kernel cannot be bound to.
    #[error("the {what} cannot be bound: {why}")]
    Binding {
        /// The binding's name.
        what: &'static str,
        /// What is wrong with the buffer or the slice.
        why: String,
    },
    /// A caller's device cannot do what a kernel needs, or refused it.
    #[error("{label}: the device refuses: {why}")]
    Device {
        /// The kernel's label.
        label: String,
        /// What the device lacks or said.
        why: String,
    },
    /// A benchmark found an answer that is not that of float64.
    #[error("wrong answer on {adapter} ({case}): {what}")]
    WrongAnswer {
        /// What was computed, of what.
        case: String,
        /// On what.
        adapter: String,
        /// The value at fault, and what it should have been.
        what: String,
    },
}

/// What fallible calls of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
