//! Characters that are numbers and letters, as Python has them (Unicode 14.0).

use unicode_categories::UnicodeCategories;

/// The zeros that nine further decimal digits follow.
const ZEROS: [u32; 62] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620,
    0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0,
    0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60,
    0x16ac0, 0x16b50, 0x1d7ce, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];
/// The block of mathematical digits, which are five times ten.
const MATHEMATICAL: (u32, u32) = (0x1d7ce, 0x1d7ff);

/// The value of a decimal digit of any script.
pub(super) fn decimal(c: char) -> Option<u32> {
    if c.is_ascii() {
        return c.to_digit(10);
    }
    let code = u32::from(c);
    if (MATHEMATICAL.0..=MATHEMATICAL.1).contains(&code) {
        return Some((code - MATHEMATICAL.0) % 10);
    }
    let zero = ZEROS.get(ZEROS.partition_point(|zero| *zero <= code).checked_sub(1)?)?;
    Some(code - zero).filter(|value| *value < 10)
}

/// Decimal digits, and those above, below and in circles.
pub(super) fn is_digit(c: char) -> bool {
    let is_other = || {
        matches!(u32::from(c),
            0xb2 | 0xb3 | 0xb9 | 0x1369..=0x1371 | 0x19da | 0x2070 | 0x2074..=0x2079 | 0x2080..=0x2089
            | 0x2460..=0x2468 | 0x2474..=0x247c | 0x2488..=0x2490 | 0x24ea | 0x24f5..=0x24fd | 0x24ff
            | 0x2776..=0x277e | 0x2780..=0x2788 | 0x278a..=0x2792 | 0x10a40..=0x10a43 | 0x10e60..=0x10e68
            | 0x11052..=0x1105a | 0x1f100..=0x1f10a)
    };
    decimal(c).is_some() || is_other()
}

/// Whatever stands for a number, of which some are letters of Chinese.
pub(super) fn is_numeric(c: char) -> bool {
    const CHINESE: &str = "㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百肆萬貮貳贰阡陆陌陸零";
    c.is_numeric() || (!c.is_ascii() && (CHINESE.contains(c) || is_rare(c)))
}

fn is_rare(c: char) -> bool {
    matches!(
        u32::from(c),
        0xf96b
            | 0xf973
            | 0xf978
            | 0xf9b2
            | 0xf9d1
            | 0xf9d3
            | 0xf9fd
            | 0x20001
            | 0x20064
            | 0x200e2
            | 0x20121
            | 0x2092a
            | 0x20983
            | 0x2098c
            | 0x2099c
            | 0x20aea
            | 0x20afd
            | 0x20b19
            | 0x22390
            | 0x22998
            | 0x23b1b
            | 0x2626d
            | 0x2f890
    )
}

/// Letters; marks on them, letters that are numbers, and those in circles are none.
pub(super) fn is_letter(c: char) -> bool {
    c.is_alphabetic() && (c.is_ascii() || !(c.is_mark() || c.is_number_letter() || c.is_symbol_other()))
}

/// What a name may start with.
pub(super) fn starts_name(c: char) -> bool {
    c == '_' || (c.is_alphabetic() && (c.is_ascii() || !(c.is_mark() || c.is_symbol_other())))
}

/// What may follow in a name.
pub(super) fn is_in_name(c: char) -> bool {
    let follows = || c.is_mark_nonspacing() || c.is_mark_spacing_combining() || c.is_punctuation_connector();
    starts_name(c) || decimal(c).is_some() || (!c.is_ascii() && follows())
}
