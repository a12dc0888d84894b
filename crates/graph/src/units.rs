//! Sizes in words for people.

/// Bytes in the decimal unit that leaves one to three digits before the point: `41.2 GB`.
pub fn bytes(count: u64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut size = count as f64;
    let mut unit = 0;
    while size >= 999.95 && unit + 1 < units.len() {
        size /= 1e3;
        unit += 1;
    }
    if unit == 0 { format!("{count} bytes") } else { format!("{size:.1} {}", units[unit]) }
}

/// A count in the decimal unit that leaves one to three digits before the point: `3.2 M`, `1.2 G`.
pub fn count(count: u64) -> String {
    match count as f64 {
        n if n >= 999.95e9 => format!("{:.1} T", n / 1e12),
        n if n >= 999.95e6 => format!("{:.1} G", n / 1e9),
        n if n >= 999.95e3 => format!("{:.1} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        _ => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let shown = [0, 999, 1000, 999_949, 999_951, 41_200_000_000, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 bytes", "999 bytes", "1.0 kB", "999.9 kB", "1.0 MB", "41.2 GB", "18446.7 PB"]);
        assert_eq!([9999, 10_000, 3_160_320, 1_200_000_000].map(count), ["9999", "10.0 k", "3.2 M", "1.2 G"]);
    }
}
