"""Counting NumPy's allocations where they are made: in its data allocator, which may be replaced (NEP 49).

NumPy takes the memory of array data through four C functions. Ours tell what is asked for and pass it
on to NumPy's own four. An array remembers the allocator it came from and may outlive the counting, so
there is one allocator, it lives for ever, and between two countings it *is* NumPy's own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_SIGNATURES = {  # of PyDataMemAllocator in numpy/ndarraytypes.h; called with the GIL held, context unused
    "malloc": ctypes.PYFUNCTYPE(_POINTER, _POINTER, _SIZE),
    "calloc": ctypes.PYFUNCTYPE(_POINTER, _POINTER, _SIZE, _SIZE),
    "realloc": ctypes.PYFUNCTYPE(_POINTER, _POINTER, _POINTER, _SIZE),
    "free": ctypes.PYFUNCTYPE(None, _POINTER, _POINTER, _SIZE),
}
_SET_HANDLER = 304  # place of PyDataMem_SetHandler in NumPy's table of C functions, the same since 1.22


class _Handler(ctypes.Structure):
    """`PyDataMem_Handler` of numpy/ndarraytypes.h."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", _POINTER),
        *_SIGNATURES.items(),
    )


@contextmanager
def counted(take: Callable[[int, int], None], give: Callable[[int], None]) -> Iterator[None]:
    """Calls `take(address, bytes)` and `give(address)` for each block of array data, while it is open.

    Only the calling thread is counted: NumPy keeps its allocator in a context variable. The callbacks
    must not raise, since C cannot pass an exception on.
    """
    set_handler, ours, capsule, numpy_s = _handlers()

    def malloc(context: int, size: int) -> int:
        address = numpy_s.malloc(context, size)
        take(address, size)
        return address

    def calloc(context: int, count: int, size: int) -> int:
        address = numpy_s.calloc(context, count, size)
        take(address, count * size)
        return address

    def realloc(context: int, old: int, size: int) -> int:
        address = numpy_s.realloc(context, old, size)
        give(old)
        take(address, size)
        return address

    def free(context: int, address: int, size: int) -> None:
        give(address)
        numpy_s.free(context, address, size)

    for function in (malloc, calloc, realloc, free):
        setattr(ours, function.__name__, _SIGNATURES[function.__name__](function))
    before = set_handler(capsule)
    try:
        yield
    finally:
        set_handler(before)
        _restore(ours, numpy_s)


def _restore(ours: _Handler, numpy_s: _Handler) -> None:
    for name in _SIGNATURES:
        setattr(ours, name, getattr(numpy_s, name))


@cache
def _handlers() -> tuple[Callable[[object], object], _Handler, object, _Handler]:
    """NumPy's PyDataMem_SetHandler, our handler, the capsule that NumPy wants it in, and NumPy's own."""
    from numpy._core._multiarray_umath import _ARRAY_API

    python = ctypes.pythonapi
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    python.PyCapsule_GetPointer.restype = _POINTER
    python.PyCapsule_New.argtypes = [_POINTER, ctypes.c_char_p, _POINTER]
    python.PyCapsule_New.restype = ctypes.py_object

    functions = ctypes.cast(python.PyCapsule_GetPointer(_ARRAY_API, None), ctypes.POINTER(_POINTER))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(functions[_SET_HANDLER])

    ours = _Handler(name=b"labs_lib", version=1)
    python.Py_IncRef(ctypes.py_object(ours))  # arrays may be freed after this module is torn down
    capsule = python.PyCapsule_New(ctypes.addressof(ours), b"mem_handler", None)
    default = set_handler(capsule)
    set_handler(default)
    numpy_s = _Handler.from_address(python.PyCapsule_GetPointer(default, b"mem_handler"))
    _restore(ours, numpy_s)
    return set_handler, ours, capsule, numpy_s
