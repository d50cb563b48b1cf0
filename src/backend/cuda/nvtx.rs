//! Named ranges for NVIDIA's profilers, so that they show what belongs to which layer.
//!
//! NVTX has no library of its own: a program that a profiler starts finds that profiler's library named in the
//! environment, loads it, and calls its `InitializeInjectionNvtx2` with a function that hands out tables. Through those
//! the profiler puts its own functions into the program's slots; a slot that it leaves empty is a function that does
//! nothing. Names, numbers and structures are those of NVTX 3 (`nvtxTypes.h`).

use std::ffi::{CString, OsStr, c_char, c_int, c_uint, c_void};
use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};

/// The variable in which a profiler names its library, for programs of 64 bits.
const VARIABLE: &str = "NVTX_INJECTION64_PATH";

/// `NvtxCallbackModule`: CORE is 1, and there are six. How many functions each has, with the one that is none.
const FUNCTIONS: [c_uint; 7] = [0, 16, 9, 15, 7, 16, 7];
const CORE: usize = 1;
/// The largest of those.
const MOST: usize = 16;

/// `NvtxCallbackIdCore`.
const RANGE_PUSH_A: usize = 9;
const RANGE_POP: usize = 11;

/// `NvtxExportTableID`.
const CALLBACKS: u32 = 1;
const VERSION_INFO: u32 = 3;

/// Where the profiler writes its functions.
static SLOTS: [[AtomicPtr<c_void>; MOST]; FUNCTIONS.len()] =
    [const { [const { AtomicPtr::new(ptr::null_mut()) }; MOST] }; FUNCTIONS.len()];

/// The addresses of the slots, as the profiler reads them: a pointer and a `usize` are alike in memory.
static TABLES: OnceLock<[[usize; MOST]; FUNCTIONS.len()]> = OnceLock::new();

fn tables() -> &'static [[usize; MOST]; FUNCTIONS.len()] {
    TABLES.get_or_init(|| SLOTS.each_ref().map(|slots| slots.each_ref().map(|slot| slot.as_ptr() as usize)))
}

/// `NvtxExportTableCallbacks`.
#[repr(C)]
struct Callbacks {
    struct_size: usize,
    functions_of: extern "C" fn(c_int, *mut *const usize, *mut c_uint) -> c_int,
}

/// `NvtxExportTableVersionInfo`.
#[repr(C)]
struct VersionInfo {
    struct_size: usize,
    version: u32,
    reserved: u32,
    set_profilers_version: extern "C" fn(u32),
}

static CALLBACK_TABLE: Callbacks = Callbacks { struct_size: size_of::<Callbacks>(), functions_of };
static VERSION_TABLE: VersionInfo = VersionInfo {
    struct_size: size_of::<VersionInfo>(),
    version: 3,
    reserved: 0,
    set_profilers_version: ignore_version,
};

extern "C" fn ignore_version(_version: u32) {}

/// `NvtxGetExportTableFunc_t`: a table by its number, or null.
extern "C" fn export_table(id: u32) -> *const c_void {
    match id {
        CALLBACKS => (&raw const CALLBACK_TABLE).cast(),
        VERSION_INFO => (&raw const VERSION_TABLE).cast(),
        _ => ptr::null(),
    }
}

/// `GetModuleFunctionTable`: the slots of a module; 0 if there is no such module.
extern "C" fn functions_of(module: c_int, table: *mut *const usize, count: *mut c_uint) -> c_int {
    let Some(module) = usize::try_from(module).ok().filter(|&module| (1..FUNCTIONS.len()).contains(&module))
    else {
        return 0;
    };
    if !table.is_null() {
        // SAFETY: NVTX: a place for one pointer, which the profiler has; checked for null.
        unsafe { table.write(tables()[module].as_ptr()) };
    }
    if !count.is_null() {
        // SAFETY: as above, for one number.
        unsafe { count.write(FUNCTIONS[module]) };
    }
    1
}

type PushA = unsafe extern "C" fn(*const c_char) -> c_int;
type Pop = unsafe extern "C" fn() -> c_int;

/// A profiler that listens to this process.
#[derive(Debug)]
pub(super) struct Nvtx {
    push: PushA,
    pop: Pop,
}

/// The profiler that the environment names. It is called once in a process, whatever it answers.
pub(super) fn ranges() -> Option<&'static Nvtx> {
    static RANGES: OnceLock<Option<Nvtx>> = OnceLock::new();
    RANGES.get_or_init(|| Nvtx::open(std::env::var_os(VARIABLE).as_deref())).as_ref()
}

impl Nvtx {
    /// Calls the profiler that the value of [`VARIABLE`] names; none without one, or where it does not listen to
    /// ranges: a profile does not fail because another profiler does.
    fn open(library: Option<&OsStr>) -> Option<Self> {
        type Initialize = unsafe extern "C" fn(extern "C" fn(u32) -> *const c_void) -> c_int;
        let library = library.filter(|library| !library.is_empty())?;
        // SAFETY: the library's code runs because the user's environment names it for that.
        let library = unsafe { Library::open(Some(library), RTLD_LAZY | RTLD_LOCAL) }.ok()?;
        // SAFETY: `NvtxInitializeInjectionNvtxFunc_t` is its type.
        let initialize = unsafe { library.get::<Initialize>(b"InitializeInjectionNvtx2\0") }
            .map(|function| *function)
            .ok()?;
        // Never closed: its functions are in the slots.
        mem::forget(library);
        // SAFETY: NVTX: called once with a function that lives as long as the process.
        if unsafe { initialize(export_table) } == 0 {
            return None;
        }
        let slot = |function: usize| SLOTS[CORE][function].load(Ordering::Acquire);
        let (push, pop) = (slot(RANGE_PUSH_A), slot(RANGE_POP));
        if push.is_null() || pop.is_null() {
            return None;
        }
        // SAFETY: the profiler wrote a function of this type there (`nvtxRangePushA_impl_fntype`); it is not null.
        let push = unsafe { mem::transmute::<*mut c_void, PushA>(push) };
        // SAFETY: as above (`nvtxRangePop_impl_fntype`).
        let pop = unsafe { mem::transmute::<*mut c_void, Pop>(pop) };
        Some(Self { push, pop })
    }

    /// Begins a range on this thread, inside those that were begun before. A name with a zero in it begins none.
    pub(super) fn push(&self, name: &str) {
        let Ok(name) = CString::new(name.replace('\0', " ")) else { return };
        // SAFETY: the name ends with a zero; the profiler copies it.
        let _depth = unsafe { (self.push)(name.as_ptr()) };
    }

    /// Ends the last range begun on this thread.
    pub(super) fn pop(&self) {
        // SAFETY: it takes nothing; without a range it returns an error and does nothing.
        let _depth = unsafe { (self.pop)() };
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::process::Command;

    use super::*;

    /// A profiler written from NVTX's header in C, which writes down what it is told.
    const PROFILER: &str = r#"
        #include <stdint.h>
        #include <string.h>
        typedef void (*Function)(void);
        struct Callbacks { size_t size; int (*functions)(int, Function ***, unsigned *); };
        static char heard[256];
        static int push(const char *name) { strcat(heard, "("); strcat(heard, name); return 0; }
        static int pop(void) { strcat(heard, ")"); return 0; }
        const char *what_was_heard(void) { return heard; }
        int InitializeInjectionNvtx2(const void *(*table)(uint32_t)) {
            const struct Callbacks *callbacks = table(1);
            Function **functions; unsigned count;
            if (!callbacks || callbacks->size < sizeof *callbacks || table(7)) return 0;
            if (callbacks->functions(0, &functions, &count) || callbacks->functions(7, &functions, &count)) return 0;
            if (!callbacks->functions(5, &functions, &count) || count != 16) return 0;
            if (!callbacks->functions(1, &functions, &count) || count != 16) return 0;
            *functions[9] = (Function)push;
            *functions[11] = (Function)pop;
            return 1;
        }
    "#;

    #[test]
    fn a_profiler_hears_the_ranges() {
        let folder = tempfile::TempDir::new().unwrap();
        let [source, library] = ["profiler.c", "libprofiler.so"].map(|name| folder.path().join(name));
        std::fs::write(&source, PROFILER).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        if !built.is_ok_and(|built| built.success()) {
            assert_ne!(std::env::var("REQUIRE_DATA").as_deref(), Ok("1"), "no C compiler");
            return;
        }
        let nvtx = Nvtx::open(Some(library.as_os_str())).unwrap();
        nvtx.push("conv1");
        nvtx.push("inner");
        nvtx.pop();
        nvtx.pop();
        // SAFETY: the library is loaded already, and has no code that runs when it is.
        let library = unsafe { Library::open(Some(&library), RTLD_LAZY | RTLD_LOCAL) }.unwrap();
        // SAFETY: the type is that of the source above.
        let heard =
            unsafe { library.get::<unsafe extern "C" fn() -> *const c_char>(b"what_was_heard\0") }.unwrap();
        // SAFETY: it takes nothing.
        let heard = unsafe { heard() };
        // SAFETY: a static text that ends with a zero.
        assert_eq!(unsafe { CStr::from_ptr(heard) }.to_str().unwrap(), "(conv1(inner))");
    }

    #[test]
    fn without_a_profiler_there_is_none() {
        assert!(Nvtx::open(None).is_none());
        assert!(Nvtx::open(Some(OsStr::new(""))).is_none());
        assert!(Nvtx::open(Some(OsStr::new("/nowhere/libprofiler.so"))).is_none());
    }
}
