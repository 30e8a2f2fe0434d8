"""Traffic with HBM, counted by hand."""

import re

import jax
import jax.numpy as jnp
import pytest

from cloob_jax.planning import hbm_traffic, hlo

_WHOLE = 12 * 64 * 8 * 4  # f32[12,64,8]
_LAYER = _WHOLE // 12


def count(*entry, others=""):
    body = "\n".join(f"  {line}" for line in entry)
    return hbm_traffic.count(
        hlo.Program(
            f"HloModule m\n\n{others}ENTRY %main (p: f32[4]) -> f32[4] {{\n{body}\n}}\n"
        )
    )


_P = "%p = f32[12,64,8]{2,1,0} parameter(0)"


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        ("%x = f32[12,64,8]{2,1,0} add(%p, %p)", 3 * _WHOLE),
        ("%x = bf16[12,64,8]{2,1,0} convert(%p)", 1.5 * _WHOLE),
        # What lies on the chip costs nothing; S(1) says so.
        ("%x = f32[12,64,8]{2,1,0:T(8,128)S(1)} negate(%p)", _WHOLE),
        ("%x = f32[64,8]{1,0} dynamic-slice(%p, %i)", 2 * _LAYER),
        ("%x = f32[12,64,8]{2,1,0} bitcast(%p)", 0),
        (
            "%x = (f32[12,64,8]{2,1,0:S(1)}, f32[12,64,8]{2,1,0}, u32[]{:S(2)}) "
            "copy-start(%p)",
            _WHOLE,
        ),
        ("%x = f32[12,64,8]{2,1,0:S(1)} copy-done(%p)", 0),
        (
            "%x = ((f32[12,64,8]{2,1,0}), f32[3,64,8]{2,1,0:S(1)}, s32[]{:S(2)}) "
            "slice-start(%p), slice={[0:3], [0:64], [0:8]}",
            3 * _LAYER,
        ),
        (
            "%x = f32[12,64,8]{2,1,0} custom-call(), "
            'custom_call_target="AllocateBuffer"',
            0,
        ),
    ],
)
def test_single_instructions(line, moved):
    assert count(_P, "%i = s32[]{:S(6)} parameter(1)", line) == moved


_FUSION = """\
%inner (a: f32[12,64,8], b: s32[]) -> f32[64,8] {
  %a = f32[12,64,8]{2,1,0} parameter(0)
  %b = s32[] parameter(1)
  ROOT %cut = f32[64,8]{1,0} dynamic-slice(%a, %b)
}

%outer (a: f32[12,64,8], b: s32[], c: f32[12,64,8], d: f32[64,8]) -> f32[12,64,8] {
  %c = f32[12,64,8]{2,1,0} parameter(2)
  %a = f32[12,64,8]{2,1,0} parameter(0)
  %b = s32[] parameter(1)
  %d = f32[64,8]{1,0} parameter(3)
  %layer = f32[64,8]{1,0} fusion(%a, %b), kind=kLoop, calls=%inner
  %new = f32[64,8]{1,0} add(%layer, %d)
  ROOT %set = f32[12,64,8]{2,1,0} dynamic-update-slice(%c, %new, %b)
}

%body (t: (s32[], f32[12,64,8], f32[12,64,8], f32[64,8])) -> (s32[]) {
  %t = (s32[]{:S(6)}, f32[12,64,8]{2,1,0}, f32[12,64,8]{2,1,0}, f32[64,8]{1,0}) \
parameter(0)
  %i = s32[]{:S(6)} get-tuple-element(%t), index=0
  %x = f32[12,64,8]{2,1,0} get-tuple-element(%t), index=1
  %y = f32[12,64,8]{2,1,0} get-tuple-element(%t), index=2
  %z = f32[64,8]{1,0} get-tuple-element(%t), index=3
  %f = f32[12,64,8]{2,1,0} fusion(%x, %i, %y, %z), kind=kLoop, calls=%outer
  ROOT %u = (s32[]{:S(6)}, f32[12,64,8]{2,1,0}) tuple(%i, %f)
}

%condition (t: (s32[])) -> pred[] {
  %t = (s32[]) parameter(0)
  %n = s32[] constant(12)
  %j = s32[] get-tuple-element(%t), index=0
  ROOT %lt = pred[] compare(%j, %n), direction=LT
}

"""


def test_a_loop_over_layers_reads_and_writes_a_layer_at_a_time():
    line = "%w = (s32[]{:S(6)}) while(%p), condition=%condition, body=%body"
    # Twelve times: a layer cut from a stack and another added to it, one written.
    assert count(_P, line, others=_FUSION) == 12 * 3 * _LAYER


def test_a_compiled_product_reads_its_factors_and_writes_itself():
    x, y = jnp.ones((32, 48)), jnp.ones((48, 64))
    text = jax.jit(jnp.matmul).lower(x, y).compile().as_text()
    moved = hbm_traffic.count(hlo.Program(text))
    assert moved == 4 * (32 * 48 + 48 * 64 + 32 * 64), re.sub("metadata.*", "", text)
