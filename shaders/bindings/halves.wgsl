// Rows one after the other, or alternating: float16, or bfloat16 as BRAIN says. Every format becomes float32, which holds it
// exactly; arithmetic is in float32.
@group(0) @binding(1) var<storage, read> predictions: array<vec2<u32>>;
const IN_PLACE: bool = false;

// Four predictions as float32 bits: element 4·quad and the three after it.
fn load_quad(quad: u32) -> vec4<u32> {
    let pairs = predictions[quad];
    if BRAIN {
        let high = pairs & vec2<u32>(0xffff0000u);
        return vec4<u32>(pairs.x << 16u, high.x, pairs.y << 16u, high.y);
    }
    if unpacks_halves() {
        return bitcast<vec4<u32>>(vec4<f32>(unpack2x16float(pairs.x), unpack2x16float(pairs.y)));
    }
    let low = pairs & vec2<u32>(0xffffu);
    let high = pairs >> vec2<u32>(16u);
    return widen_half(vec4<u32>(low.x, high.x, low.y, high.y));
}

// One prediction.
fn load_element(element: u32) -> u32 {
    return load_quad(element / 4u)[element % 4u];
}

// Whether the device's own conversion of float16 is exact: the least subnormal and infinity are what they are.
fn unpacks_halves() -> bool {
    let unpacked = bitcast<vec2<u32>>(unpack2x16float(params.halves));
    return unpacked.x == 0x33800000u && unpacked.y == INFINITE;
}

// The float32 bits of a float16. By integers: a device may flush float16's subnormals, which float32 holds as normals.
fn widen_half(half: vec4<u32>) -> vec4<u32> {
    let sign = (half & vec4<u32>(0x8000u)) << vec4<u32>(16u);
    let magnitude = half & vec4<u32>(0x7fffu);
    let normal = (magnitude << vec4<u32>(13u)) + vec4<u32>(0x38000000u);
    let subnormal = bitcast<vec4<u32>>(vec4<f32>(magnitude) * 5.9604644775390625e-8);
    let special = (magnitude << vec4<u32>(13u)) | vec4<u32>(0x7f800000u);
    let finite = select(normal, subnormal, magnitude < vec4<u32>(0x0400u));
    return sign | select(finite, special, magnitude >= vec4<u32>(0x7c00u));
}
