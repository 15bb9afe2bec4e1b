// SPDX-License-Identifier: GPL-2.0

//! Tables of files below `/proc/sys`.
//!
//! A file is described by a type that implements [`Entry`]: its name, its mode, how its value is
//! shown and how a new one is stored. [`Registration`] puts a list of such files into a directory
//! below `/proc/sys` and keeps the data that they work on. The files are gone when it is dropped.
//!
//! # Reads and writes
//!
//! They follow `proc_doulongvec_minmax()`, with sysctl's strict writes:
//!
//! - A read at position 0 gives the text of the value, cut off where the reader's buffer ends. A
//!   read at any other position gives end of file, so that a value is never put together from two
//!   moments.
//! - A write carries the whole new text and is at position 0. White space around the text is
//!   ignored. No text, text longer than [`MAX_TEXT`] bytes and a write at any other position are
//!   refused with [`EINVAL`].
//!
//! C header: [`include/linux/sysctl.h`](srctree/include/linux/sysctl.h)

use crate::{
    bindings,
    error::from_result,
    fmt,
    page::PAGE_SIZE,
    prelude::*,
    str::{
        BStr,
        RawFormatter, //
    },
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// The longest text, in bytes, that can be written to a file, white space included.
pub const MAX_TEXT: usize = PAGE_SIZE - 1;

/// A file below `/proc/sys` that works on a `T`.
///
/// The functions run in the context of the process that reads or writes the file, may sleep, and
/// may run on several CPUs at once. They must not drop the [`Registration`] they belong to, which
/// would wait for them.
///
/// # Examples
///
/// A file with a number:
///
/// ```
/// use kernel::{
///     fmt,
///     prelude::*,
///     str::{
///         parse_int::ParseInt,
///         BStr, //
///     },
///     sync::atomic::{
///         Atomic,
///         Relaxed, //
///     },
///     sysctl, //
/// };
///
/// struct Level;
///
/// impl sysctl::Entry<Atomic<usize>> for Level {
///     const NAME: &'static CStr = c"level";
///     const MODE: u16 = 0o644;
///
///     fn show(level: &Atomic<usize>, out: &mut dyn fmt::Write) -> Result {
///         writeln!(out, "{}", level.load(Relaxed))?;
///         Ok(())
///     }
///
///     fn store(level: &Atomic<usize>, text: &BStr) -> Result {
///         level.store(usize::from_str(text)?, Relaxed);
///         Ok(())
///     }
/// }
///
/// // `/proc/sys/kernel/rust_doctest/level` exists as long as this does.
/// let files = sysctl::Registration::new(
///     c"kernel/rust_doctest",
///     Atomic::new(7),
///     &[sysctl::File::of::<Level>()],
/// )?;
/// assert_eq!(files.data().load(Relaxed), 7);
/// # Ok::<(), Error>(())
/// ```
pub trait Entry<T> {
    /// The name of the file.
    const NAME: &'static CStr;

    /// Who may read and write the file: the permission bits of read and write only, as in `0o644`.
    ///
    /// They hold for root too.
    const MODE: u16;

    /// Writes the value as text to `out`, its newline included.
    ///
    /// What is more than the reader asked for is dropped without an error. An error becomes the
    /// reader's error.
    fn show(data: &T, out: &mut dyn fmt::Write) -> Result;

    /// Takes over a new value.
    ///
    /// `text` is what was written, without white space around it, and is never empty. An error
    /// becomes the writer's error; the value should then be unchanged.
    ///
    /// Entries without a write bit in [`MODE`](Self::MODE) can leave this out.
    fn store(data: &T, text: &BStr) -> Result {
        let _ = (data, text);
        Err(EPERM)
    }
}

/// One file in the list that a [`Registration`] is made from; made from an [`Entry`].
pub struct File<T> {
    name: &'static CStr,
    mode: bindings::umode_t,
    handler: bindings::proc_handler,
    _data: PhantomData<fn(&T)>,
}

impl<T> File<T> {
    /// The file that `E` describes.
    ///
    /// It does not compile if the mode of `E` has other bits than those for reading and writing.
    pub const fn of<E: Entry<T>>() -> Self {
        const {
            assert!(
                E::MODE & !0o666 == 0,
                "the mode of a sysctl is made of read and write bits only"
            );
        }
        Self {
            name: E::NAME,
            mode: E::MODE,
            handler: Some(handle::<T, E>),
            _data: PhantomData,
        }
    }

    /// The `struct ctl_table` of this file, over `data`.
    fn entry(&self, data: *mut T) -> bindings::ctl_table {
        bindings::ctl_table {
            procname: self.name.as_char_ptr(),
            data: data.cast(),
            mode: self.mode,
            proc_handler: self.handler,
            ..pin_init::zeroed()
        }
    }
}

/// Files below `/proc/sys` and the data that they work on.
///
/// The files are removed when this is dropped. That waits for reads and writes that are under way,
/// so it may sleep.
///
/// # Invariants
///
/// - `header` is what `register_sysctl_sz()` gave for the entries of `_table`, and is registered.
/// - The `data` pointer of each entry of `_table` points to the `T` in `data`, and its handler is
///   one for a `T`.
/// - Neither the elements of `_table` nor the `T` in `data` are moved or mutably borrowed.
pub struct Registration<T> {
    header: NonNull<bindings::ctl_table_header>,
    _table: KVec<bindings::ctl_table>,
    data: KBox<T>,
}

// SAFETY: A table can be unregistered on any thread, and `T` can be dropped there.
unsafe impl<T: Send> Send for Registration<T> {}

// SAFETY: All that can be had from a shared reference is a `&T`.
unsafe impl<T: Sync> Sync for Registration<T> {}

impl<T: Sync + 'static> Registration<T> {
    /// Puts `files` over `data` into the directory `path` below `/proc/sys`.
    ///
    /// `path` is relative, as in `c"vm"`; directories that do not exist are created. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] if there is no memory.
    /// - [`EINVAL`] if the table is refused, such as when `path` has a file of one of the names
    ///   already; the kernel log has the reason. C gives no other code for it.
    pub fn new(path: &CStr, data: T, files: &[File<T>]) -> Result<Self> {
        let data = KBox::new(data, GFP_KERNEL)?;
        let mut table = KVec::with_capacity(files.len(), GFP_KERNEL)?;
        for file in files {
            table.push(
                file.entry(core::ptr::from_ref(&*data).cast_mut()),
                GFP_KERNEL,
            )?;
        }

        // SAFETY:
        // - `path` is a NUL-terminated string and is copied.
        // - `table` has as many valid entries as it says. They, their names (`'static`) and the
        //   data that their handlers get stay where they are until `Drop` has unregistered them;
        //   that the `Registration` may be leaked instead is why `T: 'static`.
        // - The handlers may run from here on, on any CPU, which `T: Sync` allows.
        let header = unsafe {
            bindings::register_sysctl_sz(path.as_char_ptr(), table.as_ptr(), table.len())
        };

        // INVARIANT: The table was just registered, with entries that `File::entry` made for the
        // `T` in `data`. Moving the vector and the box does not move what they own.
        Ok(Self {
            header: NonNull::new(header).ok_or(EINVAL)?,
            _table: table,
            data,
        })
    }
}

impl<T> Registration<T> {
    /// The data that the files work on.
    pub fn data(&self) -> &T {
        &self.data
    }
}

impl<T> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the table is registered; it is not used any more. This
        // waits for running handlers, so that the table and the data can be freed afterwards.
        unsafe { bindings::unregister_sysctl_table(self.header.as_ptr()) };
    }
}

/// The `proc_handler` of the file that `E` describes.
///
/// # Safety
///
/// - The `data` of `table` must point to a `T` that is valid for shared access during the call.
/// - `lenp` and `ppos` must be valid for reads and writes and not be used by anyone else.
/// - `buffer` must be valid for `*lenp` bytes and not be used by anyone else: for writes if `write`
///   is 0, otherwise for reads, and then initialised.
unsafe extern "C" fn handle<T, E: Entry<T>>(
    table: *const bindings::ctl_table,
    write: c_int,
    buffer: *mut c_void,
    lenp: *mut usize,
    ppos: *mut bindings::loff_t,
) -> c_int {
    // SAFETY: By the safety requirements, the table and its data are valid for shared access.
    let data = unsafe { &*(*table).data.cast::<T>() };
    // SAFETY: By the safety requirements, nobody else uses these.
    let (len, pos) = unsafe { (&mut *lenp, &mut *ppos) };
    let buffer = buffer.cast::<u8>();

    from_result(|| {
        if write == 0 {
            // SAFETY: By the safety requirements, `buffer` is valid for writes of `*len` bytes.
            *len = unsafe { read::<T, E>(data, buffer, *len, *pos) }?;
        } else {
            // SAFETY: By the safety requirements, `buffer` is valid for reads of `*len` bytes,
            // which are initialised.
            let text = unsafe { core::slice::from_raw_parts(buffer, *len) };
            self::write::<T, E>(data, text, *pos)?;
        }
        // CAST: The length of what was read or written is that of an object in memory, which fits.
        *pos = pos.wrapping_add(*len as bindings::loff_t);
        Ok(0)
    })
}

/// Reads a file at `pos` and gives the number of bytes put into `buffer`.
///
/// # Safety
///
/// `buffer` must be valid for writes of `len` bytes.
unsafe fn read<T, E: Entry<T>>(
    data: &T,
    buffer: *mut u8,
    len: usize,
    pos: bindings::loff_t,
) -> Result<usize> {
    if len == 0 || pos != 0 {
        return Ok(0);
    }
    // SAFETY: By the safety requirements, `buffer` is valid for writes of `len` bytes.
    let mut out = unsafe { RawFormatter::from_buffer(buffer, len) };
    E::show(data, &mut out)?;
    // The formatter counts also what it had no room for.
    Ok(out.bytes_written().min(len))
}

/// Writes `text` to a file at `pos`.
fn write<T, E: Entry<T>>(data: &T, text: &[u8], pos: bindings::loff_t) -> Result {
    if pos != 0 || text.len() > MAX_TEXT {
        return Err(EINVAL);
    }
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(EINVAL);
    }
    E::store(data, BStr::from_bytes(text))
}

#[cfg(CONFIG_RUST_SYSCTL_KUNIT_TEST)]
#[kunit_tests(rust_sysctl)]
mod tests {
    use super::*;
    use crate::{
        str::parse_int::ParseInt,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        },
    };

    /// What the files of the tests work on.
    struct Numbers {
        first: Atomic<usize>,
        second: Atomic<usize>,
    }

    struct First;

    impl Entry<Arc<Numbers>> for First {
        const NAME: &'static CStr = c"first";
        const MODE: u16 = 0o644;

        fn show(numbers: &Arc<Numbers>, out: &mut dyn fmt::Write) -> Result {
            writeln!(out, "{}", numbers.first.load(Relaxed))?;
            Ok(())
        }

        fn store(numbers: &Arc<Numbers>, text: &BStr) -> Result {
            numbers.first.store(usize::from_str(text)?, Relaxed);
            Ok(())
        }
    }

    /// Two numbers in a file, of which only small ones are taken.
    struct Both;

    impl Entry<Arc<Numbers>> for Both {
        const NAME: &'static CStr = c"both";
        const MODE: u16 = 0o600;

        fn show(numbers: &Arc<Numbers>, out: &mut dyn fmt::Write) -> Result {
            let (first, second) = (numbers.first.load(Relaxed), numbers.second.load(Relaxed));
            writeln!(out, "{first} {second}")?;
            Ok(())
        }

        fn store(numbers: &Arc<Numbers>, text: &BStr) -> Result {
            let mut words = text.split(u8::is_ascii_whitespace);
            let (Some(first), Some(second), None) = (words.next(), words.next(), words.next())
            else {
                return Err(EINVAL);
            };
            let first = usize::from_str(BStr::from_bytes(first))?;
            let second = usize::from_str(BStr::from_bytes(second))?;
            if first > 100 || second > 100 {
                return Err(ERANGE);
            }
            numbers.first.store(first, Relaxed);
            numbers.second.store(second, Relaxed);
            Ok(())
        }
    }

    /// Cannot be written.
    struct Sum;

    impl Entry<Arc<Numbers>> for Sum {
        const NAME: &'static CStr = c"sum";
        const MODE: u16 = 0o444;

        fn show(numbers: &Arc<Numbers>, out: &mut dyn fmt::Write) -> Result {
            let sum = numbers
                .first
                .load(Relaxed)
                .checked_add(numbers.second.load(Relaxed))
                .ok_or(EOVERFLOW)?;
            writeln!(out, "{sum}")?;
            Ok(())
        }
    }

    /// The directory of the tests, which run one after the other.
    const PATH: &CStr = c"kernel/rust_sysctl_kunit";
    const FIRST: usize = 0;
    const BOTH: usize = 1;
    const SUM: usize = 2;

    fn numbers(first: usize, second: usize) -> Result<Arc<Numbers>> {
        let numbers = Numbers {
            first: Atomic::new(first),
            second: Atomic::new(second),
        };
        Ok(Arc::new(numbers, GFP_KERNEL)?)
    }

    fn register(numbers: &Arc<Numbers>) -> Result<Registration<Arc<Numbers>>> {
        Registration::new(
            PATH,
            numbers.clone(),
            &[File::of::<First>(), File::of::<Both>(), File::of::<Sum>()],
        )
    }

    /// Calls the handler of a registered file as procfs does; gives length and position after it.
    fn access(
        files: &Registration<Arc<Numbers>>,
        file: usize,
        write: bool,
        buffer: &mut [u8],
        mut pos: bindings::loff_t,
    ) -> Result<(usize, bindings::loff_t)> {
        let entry = &files._table[file];
        let handler = entry.proc_handler.ok_or(EINVAL)?;
        let mut len = buffer.len();
        // SAFETY: The entry belongs to a live registration; buffer, length and position are ours.
        let result = unsafe {
            handler(
                entry,
                c_int::from(write),
                buffer.as_mut_ptr().cast(),
                &mut len,
                &mut pos,
            )
        };
        crate::error::to_result(result)?;
        Ok((len, pos))
    }

    /// Reads a file from its start with a buffer of `N` bytes, then expects end of file.
    fn check_read<const N: usize>(
        files: &Registration<Arc<Numbers>>,
        file: usize,
        expected: &[u8],
    ) -> Result {
        let mut buffer = [b'?'; N];
        let (len, pos) = access(files, file, false, &mut buffer, 0)?;
        assert_eq!(&buffer[..len], expected);
        assert!(buffer[len..].iter().all(|&byte| byte == b'?'));
        assert_eq!(usize::try_from(pos)?, len);
        if len > 0 {
            assert_eq!(access(files, file, false, &mut buffer, pos)?, (0, pos));
        }
        Ok(())
    }

    /// Writes a file at `pos`; what was taken must be all of it.
    fn write_at(
        files: &Registration<Arc<Numbers>>,
        file: usize,
        text: &[u8],
        pos: bindings::loff_t,
    ) -> Result {
        let mut buffer = KVec::with_capacity(text.len(), GFP_KERNEL)?;
        buffer.extend_from_slice(text, GFP_KERNEL)?;
        let (len, after) = access(files, file, true, &mut buffer, pos)?;
        assert_eq!(len, text.len());
        assert_eq!(usize::try_from(after)?, text.len());
        Ok(())
    }

    #[test]
    fn reads_end_after_the_text() -> Result {
        let files = register(&numbers(12345, 6)?)?;
        check_read::<64>(&files, FIRST, b"12345\n")?;
        check_read::<64>(&files, BOTH, b"12345 6\n")?;
        check_read::<64>(&files, SUM, b"12351\n")
    }

    #[test]
    fn reads_are_cut_off_by_the_buffer() -> Result {
        let files = register(&numbers(12345, 6)?)?;
        check_read::<6>(&files, FIRST, b"12345\n")?;
        check_read::<5>(&files, FIRST, b"12345")?;
        check_read::<1>(&files, FIRST, b"1")?;
        check_read::<0>(&files, FIRST, b"")
    }

    #[test]
    fn errors_of_show_are_those_of_the_reader() -> Result {
        let files = register(&numbers(usize::MAX, 1)?)?;
        let mut buffer = [0; 8];
        assert_eq!(access(&files, SUM, false, &mut buffer, 0), Err(EOVERFLOW));
        Ok(())
    }

    #[test]
    fn writes_ignore_white_space_around_the_text() -> Result {
        let numbers = numbers(0, 0)?;
        let files = register(&numbers)?;
        let texts: [&[u8]; 5] = [b"7", b"7\n", b"  7", b"\t7 \n", b"\n\n7\n\n"];
        for text in texts {
            numbers.first.store(0, Relaxed);
            write_at(&files, FIRST, text, 0)?;
            assert_eq!(files.data().first.load(Relaxed), 7);
        }
        write_at(&files, BOTH, b" 8 9\n", 0)?;
        assert_eq!(numbers.first.load(Relaxed), 8);
        assert_eq!(numbers.second.load(Relaxed), 9);
        Ok(())
    }

    #[test]
    fn writes_without_text_are_refused() -> Result {
        let files = register(&numbers(3, 0)?)?;
        let texts: [&[u8]; 3] = [b"", b"\n", b" \t\n"];
        for text in texts {
            assert_eq!(write_at(&files, FIRST, text, 0), Err(EINVAL));
        }
        check_read::<8>(&files, FIRST, b"3\n")
    }

    #[test]
    fn writes_in_pieces_are_refused() -> Result {
        let files = register(&numbers(3, 0)?)?;
        write_at(&files, FIRST, b"4", 0)?;
        assert_eq!(write_at(&files, FIRST, b"2", 1), Err(EINVAL));
        check_read::<8>(&files, FIRST, b"4\n")
    }

    #[test]
    fn writes_are_bounded() -> Result {
        let files = register(&numbers(3, 0)?)?;
        let mut text = KVec::from_elem(b' ', MAX_TEXT + 1, GFP_KERNEL)?;

        text[0] = b'5';
        assert_eq!(write_at(&files, FIRST, &text, 0), Err(EINVAL));
        check_read::<8>(&files, FIRST, b"3\n")?;
        write_at(&files, FIRST, &text[..MAX_TEXT], 0)?;
        check_read::<8>(&files, FIRST, b"5\n")
    }

    #[test]
    fn errors_of_store_are_those_of_the_writer() -> Result {
        let files = register(&numbers(1, 2)?)?;
        assert_eq!(write_at(&files, FIRST, b"seven", 0), Err(EINVAL));
        assert_eq!(write_at(&files, BOTH, b"7", 0), Err(EINVAL));
        assert_eq!(write_at(&files, BOTH, b"7 101", 0), Err(ERANGE));
        assert_eq!(write_at(&files, SUM, b"7", 0), Err(EPERM));
        check_read::<8>(&files, BOTH, b"1 2\n")
    }

    #[test]
    fn entries_carry_name_and_mode() -> Result {
        let files = register(&numbers(0, 0)?)?;
        let expected = [(c"first", 0o644), (c"both", 0o600), (c"sum", 0o444)];
        for (entry, (name, mode)) in files._table.iter().zip(expected) {
            // SAFETY: The name of an entry is a `&'static CStr`.
            assert_eq!(unsafe { CStr::from_char_ptr(entry.procname) }, name);
            assert_eq!(entry.mode, mode);
        }
        Ok(())
    }

    #[test]
    fn a_name_is_free_again_after_drop() -> Result {
        let numbers = numbers(0, 0)?;
        let files = register(&numbers)?;
        // The C side complains in the log about the name that is there already.
        assert_eq!(register(&numbers).map(drop), Err(EINVAL));
        drop(files);
        drop(register(&numbers)?);
        assert!(Arc::into_unique_or_drop(numbers).is_some());
        Ok(())
    }
}
