//! The host's dictionaries.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::fence::fence;
use super::sys;

/// A borrowed dictionary: keys are C strings, values are bytes (not NUL-terminated).
#[derive(Clone, Copy)]
pub struct Dict<'a>(NonNull<sys::dict_t>, PhantomData<&'a sys::dict_t>);

impl<'a> Dict<'a> {
    /// `None` for a null pointer.
    ///
    /// # Safety
    /// A pointer that is not null is a dictionary of the host, valid for `'a`, and nobody takes values out of it.
    pub(in crate::ffi) unsafe fn new(dict: *mut sys::dict_t) -> Option<Self> {
        NonNull::new(dict).map(|d| Dict(d, PhantomData))
    }

    /// The value of `key`.
    pub fn get(&self, key: &CStr) -> Option<&'a [u8]> {
        // SAFETY: `dict_get` reads the key only, and returns a pointer to a value that the dictionary keeps.
        unsafe { bytes_of(sys::dict_get(self.0.as_ptr(), key.as_ptr().cast_mut())) }
    }

    /// The pairs whose key starts with `prefix`.
    pub fn with_prefix(&self, prefix: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
        struct Search<'a> {
            prefix: &'a [u8],
            found: Vec<(&'a [u8], &'a [u8])>,
        }
        unsafe extern "C" fn visit(
            _: *mut sys::dict_t,
            key: *mut c_char,
            value: *mut sys::data_t,
            search: *mut c_void,
        ) -> c_int {
            fence("a search in a dictionary", 0, || {
                // SAFETY: `search` is the `Search` below, used by nobody else while `dict_foreach` runs.
                let search = unsafe { &mut *search.cast::<Search<'_>>() };
                // SAFETY: keys are C strings, kept by the dictionary like the values.
                let (key, value) = unsafe { (CStr::from_ptr(key).to_bytes(), bytes_of(value)) };
                if key.starts_with(search.prefix) {
                    search.found.push((key, value.unwrap_or_default()));
                }
                0
            })
        }
        let mut search = Search { prefix, found: Vec::new() };
        // SAFETY: the dictionary is valid; `visit` gets `search`, which outlives the call.
        unsafe { sys::dict_foreach(self.0.as_ptr(), Some(visit), (&raw mut search).cast()) };
        search.found
    }
}

/// # Safety
/// `data` is null or a value in a dictionary that is valid and unchanged for `'a`.
unsafe fn bytes_of<'a>(data: *const sys::data_t) -> Option<&'a [u8]> {
    // SAFETY: the caller's contract.
    let data = unsafe { data.as_ref() }?;
    if data.data.is_null() {
        return Some(&[]);
    }
    // SAFETY: the host keeps `len` bytes at `data`.
    Some(unsafe { std::slice::from_raw_parts(data.data.cast(), data.len as usize) })
}

/// A dictionary of our own, for an answer.
pub(in crate::ffi) struct OwnedDict(NonNull<sys::dict_t>);

// SAFETY: a host reference that any thread may use and give back.
unsafe impl Send for OwnedDict {}

impl OwnedDict {
    /// An empty one. `None` if the host is out of memory.
    pub(in crate::ffi) fn new() -> Option<Self> {
        // SAFETY: no preconditions.
        NonNull::new(unsafe { sys::dict_new() }).map(OwnedDict)
    }

    /// One more reference; `None` to a null pointer.
    ///
    /// # Safety
    /// `dict` is null or a valid dictionary.
    pub(in crate::ffi) unsafe fn again(dict: *mut sys::dict_t) -> Option<Self> {
        // SAFETY: the caller's contract; given back by `drop`.
        NonNull::new(dict)
            .and_then(|dict| NonNull::new(unsafe { sys::dict_ref(dict.as_ptr()) }))
            .map(OwnedDict)
    }

    /// Takes over a reference; `None` to a null pointer.
    ///
    /// # Safety
    /// `dict` is null or a valid dictionary, and the reference is the caller's to give.
    pub(in crate::ffi) unsafe fn adopt(dict: *mut sys::dict_t) -> Option<Self> {
        NonNull::new(dict).map(OwnedDict)
    }

    /// A copy of the value of `key`.
    pub(in crate::ffi) fn get(&self, key: &CStr) -> Option<Vec<u8>> {
        // SAFETY: a valid dictionary that nobody takes values out of.
        unsafe { Dict::new(self.0.as_ptr()) }?.get(key).map(<[u8]>::to_vec)
    }

    /// One pair, copied into the host's memory (it frees values itself). `None` if the host is out of memory.
    pub(in crate::ffi) fn with(key: &CStr, value: &[u8]) -> Option<Self> {
        Self::new()?.and(key, value)
    }

    /// One pair more.
    pub(in crate::ffi) fn and(self, key: &CStr, value: &[u8]) -> Option<Self> {
        // SAFETY: copies `value.len()` readable bytes.
        let copy = NonNull::new(unsafe { sys::fsnap_memdup(value.as_ptr().cast(), value.len()) })?;
        // SAFETY: the dictionary takes over `copy`, which is the host's memory, of that size, if it succeeds.
        let set = unsafe {
            sys::fsnap_dict_set_bin(self.0.as_ptr(), key.as_ptr().cast_mut(), copy.as_ptr(), value.len())
        };
        taken(set, copy).then_some(self)
    }

    /// One pair whose value is a C string. `None` if the host is out of memory.
    pub(in crate::ffi) fn with_text(key: &CStr, text: &CStr) -> Option<Self> {
        let dict = Self::new()?;
        // SAFETY: both are C strings; the value is copied.
        let set = unsafe {
            sys::dict_set_dynstr_with_alloc(dict.0.as_ptr(), key.as_ptr().cast_mut(), text.as_ptr())
        };
        (set == 0).then_some(dict)
    }

    /// What is in `dict` but for the keys that start with `prefix`. `None` if the host is out of memory.
    pub(in crate::ffi) fn without(dict: Dict<'_>, prefix: &CStr) -> Option<Self> {
        // SAFETY: a valid dictionary; the copy has references of its own to the values.
        let copy = OwnedDict(NonNull::new(unsafe { sys::dict_copy(dict.0.as_ptr(), std::ptr::null_mut()) })?);
        for (key, _) in dict.with_prefix(prefix.to_bytes()) {
            let key = std::ffi::CString::new(key).ok()?;
            // SAFETY: a valid dictionary and a C string.
            unsafe { sys::fsnap_dict_del(copy.0.as_ptr(), key.as_ptr().cast_mut()) };
        }
        Some(copy)
    }

    /// A copy of `iatt` under each of the keys. `None` if the host is out of memory.
    pub(in crate::ffi) fn with_iatts(keys: &[&CStr], iatt: &sys::iatt) -> Option<Self> {
        let dict = Self::new()?;
        for key in keys {
            // SAFETY: copies one iatt.
            let copy =
                NonNull::new(unsafe { sys::fsnap_memdup((&raw const *iatt).cast(), size_of_val(iatt)) })?;
            // SAFETY: the dictionary takes over `copy`, which is the host's memory and not static, if it succeeds.
            let set = unsafe {
                sys::dict_set_iatt(dict.0.as_ptr(), key.as_ptr().cast_mut(), copy.as_ptr().cast(), false)
            };
            if !taken(set, copy) {
                return None;
            }
        }
        Some(dict)
    }

    /// Null for none.
    pub(in crate::ffi) fn ptr_of(dict: Option<&Self>) -> *mut sys::dict_t {
        dict.map_or(std::ptr::null_mut(), Self::as_ptr)
    }

    pub(in crate::ffi) fn as_ptr(&self) -> *mut sys::dict_t {
        self.0.as_ptr()
    }
}

/// Whether a dictionary has taken over `copy`, given what its function returned; frees it otherwise.
fn taken(returned: c_int, copy: NonNull<c_void>) -> bool {
    if returned != 0 {
        // SAFETY: made by `fsnap_memdup` and left to us.
        unsafe { sys::fsnap_free(copy.as_ptr()) };
    }
    returned == 0
}

impl Drop for OwnedDict {
    fn drop(&mut self) {
        // SAFETY: this object owns one reference.
        unsafe { sys::dict_unref(self.0.as_ptr()) };
    }
}
