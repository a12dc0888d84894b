//! Element types: plain numbers, and block formats that pack many elements into one block of bytes.

use std::fmt;
use std::str::FromStr;

macro_rules! dtypes {
    ($($variant:ident $name:literal $block_elements:literal $block_bytes:literal;)*) => {
        /// The type of a tensor's elements. A block format is an element type too.
        #[allow(non_camel_case_types)] // the formats' own names
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DType {
            $(#[doc = concat!("`", $name, "`: ", stringify!($block_elements), " element(s) in ", stringify!($block_bytes), " byte(s).")] $variant,)*
        }

        impl DType {
            /// Every element type there is.
            pub const ALL: &[DType] = &[$(DType::$variant),*];

            /// The name in files, tables and messages, in lower case.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name),* }
            }

            /// Elements in one block; 1 for plain numbers.
            pub const fn block_elements(self) -> usize {
                match self { $(DType::$variant => $block_elements),* }
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> usize {
                match self { $(DType::$variant => $block_bytes),* }
            }
        }
    };
}

dtypes! {
    F32 "f32" 1 4;
    F64 "f64" 1 8;
    Bf16 "bf16" 1 2;
    F16 "f16" 1 2;
    I16 "i16" 1 2;
    I32 "i32" 1 4;
    I64 "i64" 1 8;
    U32 "u32" 1 4;
    U8 "u8" 1 1;
    I8 "i8" 1 1;
    Q4_0 "q4_0" 32 18;
    Q4_1 "q4_1" 32 20;
    Q5_0 "q5_0" 32 22;
    Q5_1 "q5_1" 32 24;
    Q8_0 "q8_0" 32 34;
    Q8_1 "q8_1" 32 36;
    Q2_K "q2_k" 256 84;
    Q3_K "q3_k" 256 110;
    Q4_K "q4_k" 256 144;
    Q5_K "q5_k" 256 176;
    Q6_K "q6_k" 256 210;
    Q8_K "q8_k" 256 292;
    Iq1S "iq1_s" 256 50;
    Iq1M "iq1_m" 256 56;
    Iq2Xxs "iq2_xxs" 256 66;
    Iq2Xs "iq2_xs" 256 74;
    Iq2S "iq2_s" 256 82;
    Iq3Xxs "iq3_xxs" 256 98;
    Iq3S "iq3_s" 256 110;
    Iq4Nl "iq4_nl" 32 18;
    Iq4Xs "iq4_xs" 256 136;
    Tq1_0 "tq1_0" 256 54;
    Tq2_0 "tq2_0" 256 66;
    Mxfp4 "mxfp4" 32 17;
    Nvfp4 "nvfp4" 64 36;
}

impl DType {
    /// Bytes of `elements` elements, or `None` when they don't fill whole blocks or overflow.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        (elements / self.block_elements()).checked_mul(self.block_bytes())
    }

    /// Whether elements are floating-point numbers or decode to them; integers are not.
    pub fn is_float(self) -> bool {
        !matches!(self, DType::I16 | DType::I32 | DType::I64 | DType::U32 | DType::U8 | DType::I8)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        Self::ALL.iter().copied().find(|d| d.name() == lower).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|d| d.name()).collect();
            format!("unknown element type `{text}`; known are {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_blocks_count_bytes() {
        for &d in DType::ALL {
            assert_eq!(d.name().parse::<DType>(), Ok(d));
        }
        assert_eq!(DType::Q4_K.bytes(512), Some(288));
        assert_eq!(DType::Q4_K.bytes(100), None);
        assert_eq!(DType::F64.bytes(usize::MAX), None);
    }
}
