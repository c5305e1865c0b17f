"""Vectors of 16 float32 numbers for functions that numba compiles: one instruction computes all of them.

Numba does not vectorise loops over a few channels, because it cannot exclude that arrays overlap. Here, each function
emits LLVM instructions on whole vectors, which LLVM maps to the vector units of any CPU. Arrays are contiguous, or
strided with a last stride of 1; an offset counts numbers from the first. Imported only where numba is installed.

Numba's cache does not notice changes of this module: after one, delete the cached functions, `__pycache__/*.nb?`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features, initialize_native_asmparser
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, register_model

from anymri.layers.compiled import LANES

LOG2_E = np.float32(1.4426950408889634)
# 2^f for f in [-1/2, 1/2] as a polynomial, relative error 9e-8; its value at 0 is exactly 1, so that a step of no time
# keeps a state.
_EXP2 = (1.0, 0.693146978, 0.240222421, 0.0555073374, 0.00967151271, 0.00132647271)
# Smallest and largest exponents of normal float32 numbers.
_LOWEST, _HIGHEST = -126.0, 127.0
# Added to a number of at most 2^22, it rounds it to an integer, which is then in the lowest bits.
_ROUNDING = 1.5 * 2**23
_MANTISSA_BITS = 23

# What the CPU has that functions are compiled for: AVX-512, whose 32 registers have a vector each; AVX512-BF16, whose
# instruction LLVM knows only as assembly; and AMX, which multiplies matrices.
HAS_AVX512, HAS_BFLOAT16, HAS_AMX = (
    config.CPU_NAME is None and config.CPU_FEATURES is None and bool(get_host_cpu_features().get(name))
    for name in ("avx512f", "avx512bf16", "amx-bf16")
)
initialize_native_asmparser()

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_HALVES = ir.VectorType(ir.IntType(16), LANES)


class _Vector(types.Type):
    """Numba's type of a vector of 16 float32 numbers."""

    def __init__(self) -> None:
        super().__init__(name=f"vector of {LANES} float32")


_VECTOR = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    """LLVM's representation of a vector."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _FLOATS)


def _constant(number: float) -> Any:
    return ir.Constant(_FLOATS, [float(np.float32(number))] * LANES)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, to: Any = _FLOATS) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), to.as_pointer())


def _multiply_add(builder: Any, *factors_and_term: Any) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    return builder.call(function, factors_and_term)


def _splat(builder: Any, number: Any) -> Any:
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_INTEGERS, [0] * LANES))


def _splat_at(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, further: int = 0) -> Any:
    place = builder.add(offset, offset.type(further))
    return _splat(builder, builder.load(_pointer(context, builder, array_type, array, place, ir.FloatType())))


@intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:
    """Return the 16 numbers of `array` from `offset` on; those of uint16 are bfloat16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, (array, offset) = signature.args[0], arguments
        if array_type.dtype != types.uint16:
            return builder.load(_pointer(context, builder, array_type, array, offset), align=4)
        halves = builder.load(_pointer(context, builder, array_type, array, offset, _HALVES), align=2)
        bits = builder.shl(builder.zext(halves, _INTEGERS), ir.Constant(_INTEGERS, [16] * LANES))
        return builder.bitcast(bits, _FLOATS)

    return _VECTOR(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, offset: Any, vector: Any) -> Any:
    """Write a vector to `array` from `offset` on; to uint16, rounded to bfloat16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, (array, offset, vector) = signature.args[0], arguments
        if array_type.dtype != types.uint16:
            builder.store(vector, _pointer(context, builder, array_type, array, offset), align=4)
        else:
            halves = builder.trunc(_rounded(builder, vector), _HALVES)
            builder.store(halves, _pointer(context, builder, array_type, array, offset, _HALVES), align=2)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def splat(typing: Any, array: Any, offset: Any) -> Any:
    """Return a vector of 16 times the number at `offset` of `array`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _splat_at(context, builder, signature.args[0], *arguments)

    return _VECTOR(array, types.intp), generate


@intrinsic
def constant(typing: Any, number: Any) -> Any:
    """Return a vector of 16 times `number`, a float32."""
    return _VECTOR(types.float32), lambda context, builder, signature, arguments: _splat(builder, arguments[0])


def _binary(operation: str) -> Any:
    """Return a function of two vectors by the name of its LLVM instruction."""

    @intrinsic
    def compute(typing: Any, first: Any, second: Any) -> Any:
        return _VECTOR(first, second), lambda _context, builder, _signature, both: getattr(builder, operation)(*both)

    return compute


add, subtract, multiply, divide = map(_binary, ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def multiply_add(typing: Any, first: Any, second: Any, term: Any) -> Any:
    """Return first * second + term."""
    return _VECTOR(first, second, term), lambda _context, builder, _signature, all_: _multiply_add(builder, *all_)


def _rounded(builder: Any, vector: Any) -> Any:
    """Return numbers rounded to bfloat16 as the lower half of integers."""
    half, one, odd = (ir.Constant(_INTEGERS, [each] * LANES) for each in (16, 1, 0x7FFF))
    bits = builder.bitcast(vector, _INTEGERS)
    return builder.lshr(builder.add(bits, builder.add(odd, builder.and_(builder.lshr(bits, half), one))), half)


@intrinsic
def pair(typing: Any, first: Any, second: Any) -> Any:
    """Return both vectors rounded to bfloat16, one number of each side by side."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, high = (_rounded(builder, each) for each in arguments)
        both = builder.or_(low, builder.shl(high, ir.Constant(_INTEGERS, [16] * LANES)))
        return builder.bitcast(both, _FLOATS)

    return _VECTOR(first, second), generate


def _multiply_add_pairs(builder: Any, first: Any, second: Any, term: Any) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    return builder.asm(kind, "vdpbf16ps $2, $1, $0", "=v,v,v,0", [first, second, term], side_effect=False)


@intrinsic
def block_of(typing: Any, shape: Any, values: Any, offset: Any) -> Any:
    """Return a block of vectors (O, V), row by row, whose row o has the number at `offset` + o of `values`.

    shape  a tuple of O tuples of V numbers: only its type counts, so that the block is kept in registers
    """
    rows, columns = shape.count, shape.dtype.count
    block = types.UniTuple(_VECTOR, rows * columns)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, values, offset = arguments
        vectors = (_splat_at(context, builder, signature.args[1], values, offset, o) for o in range(rows))
        return context.make_tuple(builder, block, [vector for vector in vectors for _ in range(columns)])

    return block(shape, values, types.intp), generate


@intrinsic
def add_products(
    typing: Any, block: Any, shape: Any, vectors: Any, start: Any, values: Any, offset: Any, pairs: Any
) -> Any:
    """Return a block plus the products of O numbers of `values` from `offset` on with V vectors from `start` on.

    shape  as for `block_of`
    pairs  None; else numbers are pairs (see `pair`), and both products are added: only where `HAS_BFLOAT16`
    """
    rows, columns = shape.count, shape.dtype.count
    product = _multiply_add if isinstance(pairs, types.NoneType) else _multiply_add_pairs

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block, _, vectors, start, values, offset, _ = arguments
        terms = cgutils.unpack_tuple(builder, block)
        places = (builder.add(start, start.type(v * LANES)) for v in range(columns))
        pointers = [_pointer(context, builder, signature.args[2], vectors, place) for place in places]
        loaded = [builder.load(pointer, align=4) for pointer in pointers]
        sums = []
        for o in range(rows):
            factor = _splat_at(context, builder, signature.args[4], values, offset, o)
            sums += [product(builder, loaded[v], factor, terms[o * columns + v]) for v in range(columns)]
        return context.make_tuple(builder, signature.return_type, sums)

    return block(block, shape, vectors, types.intp, values, types.intp, pairs), generate


@intrinsic
def store_block(typing: Any, block: Any, array: Any, offset: Any) -> Any:
    """Write the vectors of a block to `array` from `offset` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block, array, offset = arguments
        for k, vector in enumerate(cgutils.unpack_tuple(builder, block)):
            place = builder.add(offset, offset.type(k * LANES))
            builder.store(vector, _pointer(context, builder, signature.args[1], array, place), align=4)
        return context.get_dummy_value()

    return types.void(block, array, types.intp), generate


@intrinsic
def largest(typing: Any, first: Any, second: Any) -> Any:
    """Return the larger numbers of two vectors; NaN where `second` is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", arguments[1], arguments[0]), *arguments)

    return _VECTOR(first, second), generate


def _halves(size: int) -> Any:
    @intrinsic
    def divide(typing: Any, first: Any, second: Any) -> Any:
        places = [2 * size * (k // size) + k % size for k in range(LANES)]
        both = types.UniTuple(_VECTOR, 2)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            masks = (ir.Constant(_INTEGERS, [place + offset for place in places]) for offset in (0, size))
            return context.make_tuple(builder, both, [builder.shuffle_vector(*arguments, mask) for mask in masks])

        return both(first, second), generate

    return divide


# Functions that return two vectors of 32 numbers: every other 2, 4 or 8 of them, and those between.
halves_of_2, halves_of_4, halves_of_8 = map(_halves, (2, 4, 8))


@intrinsic
def where_positive(typing: Any, vector: Any, first: Any, second: Any) -> Any:
    """Return the numbers of `first` where those of `vector` are positive, else those of `second`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", arguments[0], _constant(0)), *arguments[1:])

    return _VECTOR(vector, first, second), generate


@intrinsic
def total(typing: Any, vector: Any) -> Any:
    """Return the sum of the 16 numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _FLOATS])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return builder.call(function, [ir.Constant(ir.FloatType(), 0.0), *arguments], fastmath=("reassoc",))

    return types.float32(vector), generate


@intrinsic
def exp2(typing: Any, exponent: Any) -> Any:
    """Return 2^exponent with a relative error of 2e-7, between the smallest and the largest normal power of two."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        [exponent] = arguments
        lowest, highest, rounding = map(_constant, (_LOWEST, _HIGHEST, _ROUNDING))
        # In this form a NaN remains NaN.
        exponent = builder.select(builder.fcmp_ordered("<", exponent, lowest), lowest, exponent)
        exponent = builder.select(builder.fcmp_ordered(">", exponent, highest), highest, exponent)
        rounded = builder.fadd(exponent, rounding)
        fraction = builder.fsub(exponent, builder.fsub(rounded, rounding))
        power = _constant(_EXP2[-1])
        for coefficient in _EXP2[-2::-1]:
            power = _multiply_add(builder, power, fraction, _constant(coefficient))
        bits = ir.Constant(_INTEGERS, [_MANTISSA_BITS] * LANES)
        whole = builder.shl(builder.bitcast(rounded, _INTEGERS), bits)
        return builder.bitcast(builder.add(builder.bitcast(power, _INTEGERS), whole), _FLOATS)

    return _VECTOR(exponent), generate


@njit(error_model="numpy")
def silu(x: Any) -> Any:
    """Return x / (1 + exp(-x))."""
    return divide(x, add(constant(np.float32(1)), exp2(multiply(x, constant(-LOG2_E)))))


@njit(error_model="numpy")
def softplus(x: Any) -> Any:
    """Return log(1 + exp(x)) with a relative error of 1e-6: max(x, 0) + log(1 + w), w = exp(-|x|)."""
    zero, two = constant(np.float32(0)), constant(np.float32(2))
    positive = largest(zero, x)
    w = exp2(multiply(subtract(x, add(positive, positive)), constant(LOG2_E)))
    # log(1 + w) = 2 artanh(r), r = w / (2 + w) at most 1/3, as a series.
    r = divide(w, add(two, w))
    square = multiply(r, r)
    series = constant(np.float32(2 / 15))
    for odd in (13, 11, 9, 7, 5, 3, 1):
        series = multiply_add(series, square, constant(np.float32(2) / np.float32(odd)))
    return multiply_add(series, r, positive)


@intrinsic
def transpose(typing: Any, source: Any, start: Any, stride: Any, rows: Any, target: Any, place: Any, step: Any) -> Any:
    """Write 16 columns of `source` as 16 rows of `target`; columns have up to 16 numbers, others are filled with zeros.

    start, stride  offset of the first row of `source`, and from row to row
    rows           number of rows of `source` that exist
    place, step    offset of the first row of `target`, and from row to row
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, start, stride, rows, target, place, step = arguments
        source_type, target_type = signature.args[0], signature.args[4]
        vectors = []
        for i in range(LANES):
            number = ir.Constant(start.type, i)
            exists = builder.icmp_signed("<", number, rows)
            offset = builder.add(start, builder.mul(builder.select(exists, number, start.type(0)), stride))
            row = builder.load(_pointer(context, builder, source_type, source, offset), align=4)
            vectors.append(builder.select(exists, row, _constant(0)))
        # Blocks of 8 x 8, 4 x 4, 2 x 2 and 1 x 1 beside the diagonal change places.
        for size in (8, 4, 2, 1):
            upper = [LANES + i - size if i & size else i for i in range(LANES)]
            lower = [LANES + i if i & size else i + size for i in range(LANES)]
            for i in (i for i in range(LANES) if not i & size):
                pair = vectors[i], vectors[i + size]
                vectors[i], vectors[i + size] = (
                    builder.shuffle_vector(*pair, ir.Constant(_INTEGERS, mask)) for mask in (upper, lower)
                )
        for i, vector in enumerate(vectors):
            offset = builder.add(place, builder.mul(start.type(i), step))
            builder.store(vector, _pointer(context, builder, target_type, target, offset), align=4)
        return context.get_dummy_value()

    integers = [types.intp] * 3
    return types.void(source, *integers, target, *integers[:2]), generate
