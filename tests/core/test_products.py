"""Matrix products in C beside PyTorch's in double precision, with the registers of this machine and without them."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest
import torch

from foretell.core.compiling import SPARSE, shared_library

WRAPPER = """
#include "{header}"
void set_blas(sgemm_function blas) {{ sgemm = blas; }}
#define EXPORTED(name, of) \\
    void name(int64_t rows, int64_t columns, int64_t inner, float alpha, const float *a, int64_t lda, const float *b, \\
              int64_t ldb, float beta, float *c, int64_t ldc) {{ \\
        of(rows, columns, inner, alpha, a, lda, b, ldb, beta, c, ldc); \\
    }}
EXPORTED(exported_times, times)
EXPORTED(exported_times_transposed, times_transposed)
EXPORTED(exported_transposed_times, transposed_times)
void in_parts(int64_t deep, int64_t rows, int64_t columns, int64_t inner, const float *a, const float *b, float *c) {{
    product(deep, "N", "N", rows, columns, inner, 1.0f, a, inner, b, columns, 0.0f, c, columns);
}}
void of_zeros(int sparse, int more, int64_t deep, const char *a_is, const char *b_is, int64_t rows, int64_t columns,
              int64_t inner, const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc) {{
    if (sparse) sparse_product(deep, a_is, b_is, rows, columns, inner, a, lda, b, ldb, more, c, ldc);
    else product(deep, a_is, b_is, rows, columns, inner, 1.0f, a, lda, b, ldb, (float)more, c, ldc);
}}
void add_of_zeros(int64_t rows, int64_t columns, int64_t inner, const float *a, int64_t lda, const float *b,
                  int64_t ldb, float *c, int64_t ldc) {{
    add_times_sparse(rows, columns, inner, a, lda, b, ldb, c, ldc);
}}
"""
CPUINFO = Path("/proc/cpuinfo")
PROCESSOR = set(CPUINFO.read_text().split() if platform.machine() == "x86_64" and CPUINFO.exists() else ())
BUILDS = {
    "of this machine": [],
    **({"of registers of 256 bits": ["-march=haswell"]} if "avx512f" in PROCESSOR else {}),
    **({"of the BLAS": ["-march=x86-64"]} if "avx2" in PROCESSOR else {}),
}
"""Without such registers the products of this machine are the BLAS's already."""


@pytest.fixture(scope="module", params=BUILDS)
def products(request, tmp_path_factory):
    """The three functions, of tensors: `name(a, b, c, alpha, beta)` writes c."""
    source = tmp_path_factory.mktemp("products") / "products.c"
    source.write_text(WRAPPER.format(header=SPARSE[0]))
    path = shared_library(source, SPARSE, BUILDS[request.param])
    assert path is not None, "no C compiler on this machine"
    library = ctypes.CDLL(str(path))
    torchs = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    library.set_blas(ctypes.cast(torchs.sgemm_, ctypes.c_void_p))

    def call(name, a, b, c, alpha=1.0, beta=0.0):
        inner = a.shape[0] if name == "transposed_times" else a.shape[1]
        function, number, real = getattr(library, f"exported_{name}"), ctypes.c_int64, ctypes.c_float
        function.argtypes = [number] * 3 + [real] + [ctypes.c_void_p, number] * 2 + [real, ctypes.c_void_p, number]
        function(
            *c.shape, inner, alpha, a.data_ptr(), a.stride(0), b.data_ptr(), b.stride(0), beta, c.data_ptr(),
            c.stride(0),
        )  # fmt: skip

    library.in_parts.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_void_p] * 3
    call.in_parts = library.in_parts
    library.of_zeros.argtypes = [
        *[ctypes.c_int] * 2, ctypes.c_int64, *[ctypes.c_char_p] * 2, *[ctypes.c_int64] * 3,
        *[ctypes.c_void_p, ctypes.c_int64] * 3,
    ]  # fmt: skip
    library.add_of_zeros.argtypes = [*[ctypes.c_int64] * 3, *[ctypes.c_void_p, ctypes.c_int64] * 3]
    call.of_zeros, call.add_of_zeros = library.of_zeros, library.add_of_zeros
    call.own = request.param != "of the BLAS" and (platform.machine() == "aarch64" or {"avx2", "fma"} <= PROCESSOR)
    return call


NAMES = ("times", "times_transposed", "transposed_times")


def _factors(name, rows, columns, inner, generator):
    """The factors as they are multiplied, and as the function reads them: of wider matrices, so that rows lie apart."""
    a, b = torch.randn(rows, inner, generator=generator), torch.randn(inner, columns, generator=generator)
    read_a = a.t() if name == "transposed_times" else a
    read_b = b.t() if name == "times_transposed" else b
    return a, b, *(torch.nn.functional.pad(one, (0, 3), value=torch.nan)[:, :-3] for one in (read_a, read_b))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rows", "columns", "inner"), [
    (1, 1, 1), (1, 64, 64), (5, 32, 16), (6, 16, 7), (12, 32, 16), (13, 48, 33), (60, 60, 64), (60, 64, 60),
    (23, 31, 30), (384, 64, 256), (47, 80, 513), (64, 192, 1100), (7, 15, 9), (8, 17, 100), (2, 80, 37), (3, 64, 513),
    (3, 23, 10), (33, 2, 70), (64, 3, 1100), (17, 4, 30), (16, 5, 8),
])  # fmt: skip
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 1.0), (-0.5, 2.0)])
def test_a_product_is_that_of_double_precision(products, name, rows, columns, inner, alpha, beta):
    a, b, read_a, read_b = _factors(name, rows, columns, inner, torch.Generator().manual_seed(rows + inner))
    around = torch.full((rows, columns + 5), 7.0)
    before = torch.linspace(-1, 1, rows * columns).reshape(rows, columns)
    around[:, :columns] = before if beta else torch.nan
    products(name, read_a, read_b, around[:, :columns], alpha, beta)
    expected = alpha * (a.double() @ b.double()) + (beta * before.double() if beta else 0.0)
    torch.testing.assert_close(around[:, :columns].double(), expected, rtol=1e-5, atol=2e-6 * inner)
    assert torch.equal(around[:, columns:], torch.full((rows, 5), 7.0)), "it wrote beside the product"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_stays_where_it_belongs(products, name):
    """Zeros that fill up a panel must not meet an infinite number where anyone sees it."""
    _, _, read_a, read_b = _factors(name, 20, 37, 24, torch.Generator().manual_seed(0))
    read_a[(3, 4) if name == "transposed_times" else (4, 3)] = torch.inf
    read_b[(36, 5) if name == "times_transposed" else (5, 36)] = torch.nan
    found = torch.zeros(20, 37)
    products(name, read_a, read_b, found)
    row, column = torch.arange(20)[:, None] == 4, torch.arange(37) == 36
    assert torch.equal(torch.isnan(found), column.expand(20, 37))
    assert torch.equal(torch.isinf(found), row & ~column)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_the_same_among_few_and_among_many(products, name):
    """Bit for bit in tiles; a BLAS promises it to rounding."""
    apart = 0.0 if products.own else 1e-5
    _, _, read_a, read_b = _factors(name, 95, 64, 70, torch.Generator().manual_seed(0))
    many = torch.zeros(95, 64)
    products(name, read_a, read_b, many)
    for first, count in ((0, 6), (1, 11), (30, 24), (70, 25)):
        few = torch.zeros(count, 64)
        rows = slice(first, first + count)
        products(name, read_a[:, rows] if name == "transposed_times" else read_a[rows], read_b, few)
        torch.testing.assert_close(few, many[rows], rtol=apart, atol=10 * apart)


@pytest.mark.parametrize("deep", [1, 24, 64, 100, 512])
def test_parts_of_a_sum_are_added_in_turn(products, deep):
    """Bit for bit in tiles: each part from nothing, then to what is there."""
    a, b, *_ = _factors("times", 30, 48, 100, torch.Generator().manual_seed(0))
    found, whole, part = (torch.zeros(30, 48) for _ in range(3))
    products.in_parts(deep, 30, 48, 100, a.data_ptr(), b.data_ptr(), found.data_ptr())
    for first in range(0, 100, deep):
        products("times", a[:, first : first + deep], b[first : first + deep], part)
        whole = whole + part
    apart = 0.0 if products.own else 1e-5
    torch.testing.assert_close(found, whole, rtol=apart, atol=10 * apart)


@pytest.mark.parametrize("name", ["times", "transposed_times"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 16), (2, 80), (3, 64), (16, 2), (45, 3), (64, 4)])
def test_of_few_rows_or_columns_products_are_rounded_before_they_are_added(products, name, rows, columns):
    """In the order of the terms, bit for bit in C; a BLAS promises it to rounding, and so do tiles of four columns."""
    apart = 0.0 if products.own and (columns < 4 or rows < 6 or platform.machine() == "x86_64") else 1e-5
    a, b, read_a, read_b = _factors(name, rows, columns, 530, torch.Generator().manual_seed(0))
    found, expected = torch.zeros(rows, columns), torch.zeros(rows, columns)
    for k in range(530):
        expected = expected + a[:, k, None] * b[k]
    products(name, read_a, read_b, found)
    torch.testing.assert_close(found, expected, rtol=apart, atol=10 * apart)


@pytest.mark.parametrize("rows", [1, 3])
def test_sums_of_few_rows_begin_with_what_they_are_added_to(products, rows):
    apart = 0.0 if products.own else 1e-5
    a, b, *_ = _factors("times", rows, 32, 20, torch.Generator().manual_seed(0))
    found = torch.linspace(-1, 1, rows * 32).reshape(rows, 32)
    expected = found.clone()
    for k in range(20):
        expected = expected + a[:, k, None] * b[k]
    products("times", a, b, found, beta=1.0)
    torch.testing.assert_close(found, expected, rtol=apart, atol=10 * apart)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rows", "columns", "inner", "deep"), [
    (32, 64, 16, 512), (31, 64, 16, 512), (60, 128, 64, 512), (256, 256, 256, 128), (300, 320, 200, 128),
    (257, 72, 130, 64), (64, 208, 100, 24), (40, 63, 90, 512), (128, 192, 600, 512), (33, 80, 15, 512),
    (385, 128, 64, 512), (770, 64, 513, 512), (16, 64, 40, 512), (15, 64, 40, 512), (5, 64, 40, 512), (2, 128, 40, 512),
    (40, 64, 64, 512), (40, 128, 128, 512),
])  # fmt: skip
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "apart"])
def test_zeros_left_out_change_no_number(products, name, rows, columns, inner, deep, share, more, apart):
    """Where they are few the product is the other one, whose bits these are."""
    generator = torch.Generator().manual_seed(rows + inner)
    a, _, read_a, read_b = _factors(name, rows, columns, inner, generator)
    read_a[:, : a.shape[0] if name == "transposed_times" else inner] *= (
        torch.rand(read_a.shape, generator=generator) < share
    )
    if not apart:  # and at the beginning of a cache line, where it may be read as it lies
        read_b = read_b.contiguous()
        assert read_b.data_ptr() % 64 == 0
    letters = b"T" if name == "transposed_times" else b"N", b"T" if name == "times_transposed" else b"N"
    around = torch.randn(rows, columns + 5, generator=generator)
    found, expected = around.clone(), around.clone()
    for sparse, c in ((1, found), (0, expected)):
        products.of_zeros(
            sparse, more, deep, *letters, rows, columns, inner, read_a.data_ptr(), read_a.stride(0), read_b.data_ptr(),
            read_b.stride(0), c.data_ptr(), c.stride(0),
        )  # fmt: skip
    rounding = 0.0 if products.own else 1e-5
    torch.testing.assert_close(found, expected, rtol=rounding, atol=10 * rounding)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", [(3, 70), (90, 5)])
def test_zeros_meet_what_is_not_finite(products, name, number, place):
    """A weight that is not finite has to be noticed, though every unit that reads it be silent."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(40, 128, generator=generator) * (torch.rand(40, 128, generator=generator) < 0.4)
    a[:, place[0]] = 0.0
    b = torch.randn(128, 128, generator=generator)
    b[place] = number
    letters = b"T" if name == "transposed_times" else b"N", b"T" if name == "times_transposed" else b"N"
    read_a = a.t().contiguous() if letters[0] == b"T" else a
    read_b = b.t().contiguous() if letters[1] == b"T" else b
    found = torch.zeros(40, 128)
    products.of_zeros(
        1, 0, 512, *letters, 40, 128, 128, read_a.data_ptr(), read_a.stride(0), read_b.data_ptr(), 128,
        found.data_ptr(), 128,
    )  # fmt: skip
    assert found[:, place[1]].isnan().all()
    rest = torch.arange(128) != place[1]
    torch.testing.assert_close(found[:, rest], (a @ b)[:, rest], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns", "inner"), [
    (64, 256, 60), (128, 512, 354), (192, 768, 700), (64, 400, 20), (320, 64, 30), (48, 64, 30), (64, 60, 30),
])  # fmt: skip
@pytest.mark.parametrize("share", [0.0, 0.4, 0.95])
def test_zeros_left_out_of_the_second_factor_change_no_number(products, rows, columns, inner, share):
    generator = torch.Generator().manual_seed(rows + inner)
    a, b = torch.randn(inner, rows + 3, generator=generator), torch.randn(inner, columns + 3, generator=generator)
    b[:, :columns] *= torch.rand(inner, columns, generator=generator) < share
    found = torch.randn(rows, columns + 5, generator=generator)
    expected = found.clone()
    products.add_of_zeros(
        rows, columns, inner, a.data_ptr(), a.stride(0), b.data_ptr(), b.stride(0), found.data_ptr(), found.stride(0)
    )
    products("transposed_times", a[:, :rows], b[:, :columns], expected[:, :columns], beta=1.0)
    apart = 0.0 if products.own else 1e-5
    torch.testing.assert_close(found, expected, rtol=apart, atol=10 * apart)


@pytest.mark.parametrize("name", NAMES)
def test_not_a_number_is_no_zero(products, name):
    """A network that diverges has to be noticed, however many units relu has silenced."""
    a, b = torch.zeros(64, 64), torch.ones(64, 64)
    a[3, 5], a[7, 9] = torch.nan, torch.inf
    letters = b"T" if name == "transposed_times" else b"N", b"T" if name == "times_transposed" else b"N"
    read_a, found = a.t().contiguous() if letters[0] == b"T" else a, torch.zeros(64, 64)
    products.of_zeros(
        1, 0, 512, *letters, 64, 64, 64, read_a.data_ptr(), 64, b.data_ptr(), 64, found.data_ptr(), 64
    )  # fmt: skip
    expected = torch.zeros(64, 64)
    expected[3], expected[7] = torch.nan, torch.inf
    assert torch.equal(torch.nan_to_num(found, nan=-1.0), torch.nan_to_num(expected, nan=-1.0))
