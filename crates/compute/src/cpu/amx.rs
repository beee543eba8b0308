//! The micro-kernel of bfloat16 products by AMX, whose tile registers multiply 16 x 32 by 32 x 16 in one instruction.
//!
//! Packed weights and pixels in place already have its layout: rows of pairs, and rows of contiguous channels. The summed
//! axis goes by 32, at its end once by 16; what is then left over is added by AVX-512's instructions. Registers are
//! configured once, since configuring them takes longer than a tile of a shallow product: rows beyond the product's are
//! read (memory that is there, see [`REACH`]) and never used.

use std::arch::asm;
use std::cell::Cell;
use std::sync::OnceLock;

use super::ahead::Ahead;
use super::element::{Bf16, Element};
use super::scratch;
use super::simd::{Avx512, Simd};
use super::tile::{Init, PANEL_VECTORS, Tap, Tile, TileFn};

/// Rows of a tile register.
const ROWS: usize = 16;
/// Elements of the summed axis in one step: a row of a tile register.
const DEPTH: usize = 32;
/// Columns of a panel.
const COLS: usize = PANEL_VECTORS * 16;
/// Bytes behind the end of what pixels are read from that may be read too.
const REACH: usize = scratch::REACH * size_of::<f32>();

/// Whether the processor has AMX for bfloat16 and the system lets this process use it.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| present() && permitted())
}

/// What the processor says of itself: leaf 7 names AMX's bfloat16 and its tiles (Intel's manual, volume 2A, CPUID).
fn present() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    std::arch::x86_64::__cpuid(0).eax >= 7
        && std::arch::x86_64::__cpuid_count(7, 0).edx & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
}

/// Asks Linux for the tile registers' state, which is larger than what it saves of threads by default.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let code: i64;
    // SAFETY: a system call that changes nothing but what the kernel lets this process use.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => code,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    code == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// What `ldtilecfg` reads: palette 1, and each register's rows and their bytes. Registers 0 and 1 are sums, 2 to 4 operands of
/// whole steps, 5 to 7 of half steps (the first of them A's).
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes: [64, 64, 64, 64, 64, 32, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0],
};

thread_local! {
    static CONFIGURED: Cell<bool> = const { Cell::new(false) };
}

/// Configures this thread's tile registers, once.
#[inline]
fn configure() {
    if !CONFIGURED.get() {
        // SAFETY: `available` was true; the configuration is a valid one.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly, preserves_flags));
        }
        CONFIGURED.set(true);
    }
}

/// The products of whole steps and perhaps a half one, of both column blocks where there are two, to `sums` (16 rows of
/// [`COLS`]).
#[inline(always)]
unsafe fn multiply<const VECTORS: usize>(
    taps: &[Tap<Bf16>],
    (steps, half): (usize, bool),
    (a_i, b_k): (usize, usize),
    sums: *mut f32,
) {
    let (a_row, b_row) = (a_i * size_of::<Bf16>(), b_k * size_of::<Bf16>());
    // SAFETY: the caller's promise; the compiler uses no tile registers.
    unsafe {
        asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem, preserves_flags));
        for tap in taps {
            let (mut a, mut b) = (tap.a, tap.b);
            for _ in 0..steps {
                asm!(
                    "tileloadd tmm2, [{a} + {a_row}]",
                    "tileloadd tmm3, [{b} + {b_row}]",
                    "tdpbf16ps tmm0, tmm2, tmm3",
                    a = in(reg) a, a_row = in(reg) a_row, b = in(reg) b, b_row = in(reg) b_row,
                    options(nostack, readonly, preserves_flags),
                );
                if VECTORS == 2 {
                    asm!(
                        "tileloadd tmm4, [{b} + {b_row}]",
                        "tdpbf16ps tmm1, tmm2, tmm4",
                        b = in(reg) b.add(DEPTH), b_row = in(reg) b_row,
                        options(nostack, readonly, preserves_flags),
                    );
                }
                a = a.add(DEPTH);
                b = b.add(DEPTH / 2 * b_k);
            }
            if half {
                asm!(
                    "tileloadd tmm5, [{a} + {a_row}]",
                    "tileloadd tmm6, [{b} + {b_row}]",
                    "tdpbf16ps tmm0, tmm5, tmm6",
                    a = in(reg) a, a_row = in(reg) a_row, b = in(reg) b, b_row = in(reg) b_row,
                    options(nostack, readonly, preserves_flags),
                );
                if VECTORS == 2 {
                    asm!(
                        "tileloadd tmm7, [{b} + {b_row}]",
                        "tdpbf16ps tmm1, tmm5, tmm7",
                        b = in(reg) b.add(DEPTH), b_row = in(reg) b_row,
                        options(nostack, readonly, preserves_flags),
                    );
                }
            }
        }
        let row = COLS * size_of::<f32>();
        asm!("tilestored [{p} + {row}], tmm0", p = in(reg) sums, row = in(reg) row, options(nostack, preserves_flags));
        if VECTORS == 2 {
            let p = sums.add(16);
            asm!("tilestored [{p} + {row}], tmm1", p = in(reg) p, row = in(reg) row, options(nostack, preserves_flags));
        }
    }
}

/// One tile, as [`super::tile::Tiles::along_k`]; `rest` adds what whole steps leave over, `alone` runs products that are too
/// shallow.
#[inline(always)]
pub(crate) unsafe fn tile<C: Element, const VECTORS: usize>(
    t: &Tile<Bf16, C>,
    rows: usize,
    rest: TileFn<Bf16, f32>,
    alone: TileFn<Bf16, C>,
) {
    let (steps, half) = (t.k / DEPTH, t.k % DEPTH >= DEPTH / 2);
    let done = steps * DEPTH + if half { DEPTH / 2 } else { 0 };
    // SAFETY: the caller's promise; rows beyond the tile's are read within the reach of its buffer's end.
    unsafe {
        if done == 0 || ROWS * t.a_i * size_of::<Bf16>() > REACH {
            return alone(t);
        }
        configure();
        #[repr(align(64))]
        struct Sums(#[allow(dead_code)] [f32; ROWS * COLS]);
        let mut sums = std::mem::MaybeUninit::<Sums>::uninit();
        let sums = sums.as_mut_ptr().cast::<f32>();
        multiply::<VECTORS>(t.taps, (steps, half), (t.a_i, t.b_k), sums);
        if done < t.k {
            let mut taps = [Tap { a: std::ptr::null(), b: std::ptr::null() }; super::tile::MAX_TAPS];
            for (tap, from) in taps.iter_mut().zip(t.taps) {
                *tap = Tap { a: from.a.add(done), b: from.b.add(done / 2 * t.b_k) };
            }
            rest(&Tile {
                taps: &taps[..t.taps.len()],
                k: t.k - done,
                a_i: t.a_i,
                a_k: t.a_k,
                b_k: t.b_k,
                c: sums,
                c_i: COLS,
                cols: VECTORS * 16,
                init: Init::C,
                ahead: Ahead::NONE,
            });
        }
        let last = t.cols - (VECTORS - 1) * 16;
        for v in 0..VECTORS {
            let n = if v + 1 == VECTORS { last } else { 16 };
            let row = match t.init {
                Init::Row(bias) => Avx512::load_n(bias.add(v * 16), n),
                _ => Avx512::zero(),
            };
            for i in 0..rows {
                let to = t.c.add(i * t.c_i + v * 16);
                let add = if matches!(t.init, Init::C) { C::load_n::<Avx512>(to, n) } else { row };
                C::store_n::<Avx512>(to, Avx512::add(Avx512::load(sums.add(i * COLS + v * 16)), add), n);
            }
        }
    }
}
