// Predictions out of 16-byte words. Every format becomes float32, which holds it exactly; arithmetic is in float32.

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

// Four predictions as float32 bits: element 4·quad and the three after it.
fn load_quad(quad: u32) -> vec4<u32> {
    if HALF || BRAIN {
        let at = quad % 2u * 2u;
        let pair = vec2<u32>(prediction_word(quad / 2u)[at], prediction_word(quad / 2u)[at + 1u]);
        let low = pair & vec2<u32>(0xffffu);
        let high = pair >> vec2<u32>(16u);
        let elements = vec4<u32>(low.x, high.x, low.y, high.y);
        if BRAIN {
            return elements << vec4<u32>(16u);
        }
        return widen_half(elements);
    }
    return prediction_word(quad);
}

// One prediction as float32 bits.
fn load_element(element: u32) -> u32 {
    if HALF || BRAIN {
        let pair = prediction_word(element / 8u)[element / 2u % 4u];
        let bits = select(pair & 0xffffu, pair >> 16u, element % 2u == 1u);
        if BRAIN {
            return bits << 16u;
        }
        return widen_half(vec4<u32>(bits)).x;
    }
    return prediction_word(element / 4u)[element % 4u];
}

fn load_target(element: u32) -> u32 {
    return targets[element / 4u][element % 4u];
}
