//! What the system says of the processor, its caches and its memory.

use std::fs;

/// The processor's name, where the system says.
pub fn processor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, name) = info.lines().find(|line| line.starts_with("model name"))?.split_once(':')?;
    Some(name.trim().to_owned())
}

/// Bytes of the largest cache, where the system says.
pub(super) fn largest_cache() -> Option<u64> {
    let caches = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    let sizes = caches.flatten().filter_map(|cache| fs::read_to_string(cache.path().join("size")).ok());
    sizes.filter_map(|size| bytes(&size)).max()
}

/// Bytes of memory that are free, or can be made so, where the system says.
pub(super) fn available_memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    bytes(info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?)
}

/// "48K", "491520K", "  20 kB" in bytes.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().chars().next() {
        None => 1,
        Some('k' | 'K') => 1 << 10,
        Some('M') => 1 << 20,
        Some('G') => 1 << 30,
        Some(_) => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_their_units() {
        assert_eq!(bytes("48K\n"), Some(48 << 10));
        assert_eq!(bytes("491520K"), Some(480 << 20));
        assert_eq!(bytes("  20000 kB"), Some(20_000 << 10));
        assert_eq!(bytes("2M"), Some(2 << 20));
        assert_eq!(bytes("512"), Some(512));
        assert_eq!(bytes("7 parsecs"), None);
        assert_eq!(bytes("much"), None);
    }
}
