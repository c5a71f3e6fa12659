//! The training example learns.

#[path = "../examples/train_digits.rs"]
#[allow(dead_code, reason = "an example has a main function")]
mod train_digits;

#[test]
fn the_digits_are_learned() {
    // Keeps the software adapter's driver in memory until the process has ended.
    assert!(!xent::adapters_blocking().is_empty(), "on Debian, apt-get install mesa-vulkan-drivers");
    let outcome = train_digits::train(300).expect("the device trains");
    assert!(outcome.accuracy >= 0.95, "{} of the scans are told right", outcome.accuracy);
    let (first, last) = (outcome.losses[0], outcome.losses[outcome.losses.len() - 1]);
    assert!(first > 1.5 && last < 0.1, "from {first} to {last}");
}
