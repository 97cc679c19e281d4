// Where the hardware's exp and tanh could overflow their argument is clamped: the result is the same.

fn silu4(x: vec4f) -> vec4f {
    return x / (1.0 + exp(min(-x, vec4f(80.0))));
}

fn gelu_tanh4(x: vec4f) -> vec4f {
    let inner = 0.7978845608028654 * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1.0 + tanh(clamp(inner, vec4f(-15.0), vec4f(15.0))));
}
