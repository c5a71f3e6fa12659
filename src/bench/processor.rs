//! What the system says of the processor, its caches and its memory.

use std::collections::BTreeMap;
use std::fs;

/// The processor's name, where the system says.
pub fn processor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, name) = info.lines().find(|line| line.starts_with("model name"))?.split_once(':')?;
    Some(name.trim().to_owned())
}

/// Threads that the CPU backend works with.
pub fn threads() -> usize {
    crate::threads::count()
}

/// Bytes of the largest caches together, where the system says: each group of cores may have one of its own.
pub(super) fn largest_caches() -> Option<u64> {
    // By the level and the cores that share it, each cache once.
    let mut caches = BTreeMap::new();
    for cpu in fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        for cache in fs::read_dir(cpu.path().join("cache")).into_iter().flatten().flatten() {
            let read = |name| fs::read_to_string(cache.path().join(name)).ok();
            if let (Some(level), Some(cores), Some(size)) = (read("level"), read("shared_cpu_list"), read("size")) {
                let (Ok(level), Some(size)) = (level.trim().parse::<u32>(), bytes(&size)) else { continue };
                caches.insert((level, cores), size);
            }
        }
    }
    let largest = caches.keys().map(|&(level, _)| level).max()?;
    Some(caches.iter().filter(|((level, _), _)| *level == largest).map(|(_, size)| size).sum())
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
