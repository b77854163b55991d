//! Integers of any size, between decimal digits and little-endian two's complement.

/// What fits into one step: 10 to the 19th power is the largest power of ten in 64 bits.
const STEP_DIGITS: usize = 19;
const STEP: u64 = 10_000_000_000_000_000_000;

/// Little-endian two's complement of up to 64 bits; `None` for more.
pub(super) fn small(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut value = if negative { [0xff; 8] } else { [0; 8] };
    value.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(value))
}

/// The decimal digits of little-endian two's complement.
pub(super) fn digits(bytes: &[u8]) -> String {
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut limbs: Vec<u64> = bytes
        .chunks(8)
        .map(|chunk| {
            let mut limb = if negative { [0xff; 8] } else { [0; 8] };
            limb[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(limb)
        })
        .collect();
    if negative {
        negate(&mut limbs);
    }
    let mut steps = Vec::new();
    loop {
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
        if limbs.is_empty() {
            break;
        }
        let mut rest = 0u64;
        for limb in limbs.iter_mut().rev() {
            let both = u128::from(rest) << 64 | u128::from(*limb);
            *limb = (both / u128::from(STEP)) as u64;
            rest = (both % u128::from(STEP)) as u64;
        }
        steps.push(rest);
    }
    let mut out = String::with_capacity(steps.len() * STEP_DIGITS + 1);
    if negative {
        out.push('-');
    }
    match steps.pop() {
        None => out.push('0'),
        Some(first) => out.push_str(&first.to_string()),
    }
    for step in steps.iter().rev() {
        out.push_str(&format!("{step:019}"));
    }
    out
}

/// The shortest little-endian two's complement of decimal digits, with a minus sign perhaps.
pub(super) fn twos_complement(digits: &str) -> Vec<u8> {
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits),
    };
    let mut limbs: Vec<u64> = Vec::new();
    let first = digits.len() % STEP_DIGITS;
    let ends = (first..=digits.len()).step_by(STEP_DIGITS);
    let mut start = 0;
    for end in ends {
        let mut carry = digits[start..end].parse::<u64>().unwrap_or_default();
        start = end;
        for limb in &mut limbs {
            let sum = u128::from(*limb) * u128::from(STEP) + u128::from(carry);
            *limb = sum as u64;
            carry = (sum >> 64) as u64;
        }
        if carry > 0 {
            limbs.push(carry);
        }
    }
    // Room for the sign.
    limbs.push(0);
    if negative {
        negate(&mut limbs);
    }
    let mut bytes: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
    let filler = if negative { 0xff } else { 0 };
    while let [.., second, last] = bytes[..]
        && last == filler
        && (second & 0x80 != 0) == negative
    {
        bytes.pop();
    }
    bytes
}

fn negate(limbs: &mut [u64]) {
    let mut carry = true;
    for limb in limbs {
        (*limb, carry) = (!*limb).overflowing_add(carry.into());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_integers() {
        for (text, bytes) in [
            ("0", &[0][..]),
            ("127", &[0x7f]),
            ("128", &[0x80, 0]),
            ("-1", &[0xff]),
            ("-128", &[0x80]),
            ("-129", &[0x7f, 0xff]),
            ("2147483648", &[0, 0, 0, 0x80, 0]),
            ("-9223372036854775808", &[0, 0, 0, 0, 0, 0, 0, 0x80]),
            ("18446744073709551616", &[0, 0, 0, 0, 0, 0, 0, 0, 1]),
            ("-18446744073709551616", &[0, 0, 0, 0, 0, 0, 0, 0, 0xff]),
        ] {
            assert_eq!(twos_complement(text), bytes, "{text}");
            assert_eq!(digits(bytes), text);
            assert_eq!(small(bytes), text.parse().ok());
        }
        assert_eq!(small(&[]), Some(0));
        assert_eq!(digits(&[]), "0");
        assert_eq!(digits(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "5");
        assert_eq!(digits(&[0xff; 30]), "-1");
    }

    proptest! {
        #[test]
        fn as_128_bits_count(n: i128) {
            prop_assert_eq!(digits(&n.to_le_bytes()), n.to_string());
            let bytes = twos_complement(&n.to_string());
            prop_assert_eq!(digits(&bytes), n.to_string());
            prop_assert!(bytes.len() <= 16);
        }

        #[test]
        fn any_length_survives(text in "-?[1-9][0-9]{0,300}") {
            prop_assert_eq!(digits(&twos_complement(&text)), text);
        }
    }
}
