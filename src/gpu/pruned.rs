//! Kernels without what their constants rule out. A driver inlines every function before it looks at a condition: of the
//! instructions it would go through, half and more are of branches that no constant leaves open.

use std::borrow::Cow;
use std::collections::HashMap;
use std::mem;

use wgpu::ShaderSource;
use wgpu::naga::back::pipeline_constants::{PipelineConstantError, process_overrides};
use wgpu::naga::compact::{KeepUnused, compact};
use wgpu::naga::front::wgsl;
use wgpu::naga::ir::{
    Block, Constant, Expression, Function, Literal, LocalVariable, Module, ShaderStage, Statement, SwitchCase, UnaryOperator,
};
use wgpu::naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use wgpu::naga::{Arena, Handle};

/// A shader, with the constants that it still needs.
pub(super) type Source<'c> = (ShaderSource<'static>, &'c [(&'static str, f64)]);

/// The function `entry` of a shader, with `constants` for its overrides and without what these rule out; or the text as it is if
/// it has an error, which the device then reports.
pub(super) fn source<'c>(text: String, entry: &str, constants: &'c [(&'static str, f64)]) -> Source<'c> {
    let pruned = || {
        let module = wgsl::parse_str(&text).ok()?;
        // What a device has not, it refuses.
        let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).ok()?;
        pruned(&module, &info, entry, constants).ok()
    };
    match pruned() {
        Some(module) => (ShaderSource::Naga(Cow::Owned(module)), &[]),
        None => (ShaderSource::Wgsl(text.into()), constants),
    }
}

/// The function `entry` of a module, with `constants` for its overrides and without what these rule out.
///
/// # Errors
/// For constants that are missing, unknown, or make an expression that is none.
pub(crate) fn pruned(
    module: &Module,
    info: &ModuleInfo,
    entry: &str,
    constants: &[(&'static str, f64)],
) -> Result<Module, PipelineConstantError> {
    let constants = constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let (module, _) = process_overrides(module, info, Some((ShaderStage::Compute, entry)), &constants)?;
    let mut module = module.into_owned();
    let Module { functions, entry_points, constants, global_expressions, .. } = &mut module;
    let mut facts = Facts { constants, globals: global_expressions, returned: HashMap::new() };
    // Functions stand before those that call them.
    for (handle, function) in functions.iter_mut() {
        if let Some(value) = prune(function, &facts) {
            facts.returned.insert(handle, value);
        }
    }
    for entry in entry_points {
        prune(&mut entry.function, &facts);
    }
    compact(&mut module, KeepUnused::No);
    Ok(module)
}

/// What is known of a module's conditions.
struct Facts<'m> {
    constants: &'m Arena<Constant>,
    globals: &'m Arena<Expression>,
    /// What functions return, where constants alone decide that.
    returned: HashMap<Handle<Function>, bool>,
}

/// What is known of a function's variables.
type Decided = HashMap<Handle<LocalVariable>, bool>;

impl Facts<'_> {
    /// What a condition is, if constants decide it.
    fn known(&self, expressions: &Arena<Expression>, decided: &Decided, condition: &Expression) -> Option<bool> {
        let known = |condition: &Expression| self.known(expressions, decided, condition);
        match *condition {
            Expression::Literal(Literal::Bool(value)) => Some(value),
            Expression::Constant(constant) => known(&self.globals[self.constants[constant].init]),
            Expression::CallResult(function) => self.returned.get(&function).copied(),
            Expression::Unary { op: UnaryOperator::LogicalNot, expr } => known(&expressions[expr]).map(|value| !value),
            Expression::Load { pointer } => match expressions[pointer] {
                Expression::LocalVariable(variable) => decided.get(&variable).copied(),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Takes out of a function what is ruled out, and says what it returns if constants decide that.
fn prune(function: &mut Function, facts: &Facts<'_>) -> Option<bool> {
    // Only messages have these names; what has one counts as used.
    function.named_expressions.clear();
    let mut decided = Decided::new();
    loop {
        let known =
            |condition: Handle<Expression>| facts.known(&function.expressions, &decided, &function.expressions[condition]);
        function.body = open(mem::take(&mut function.body), &known);
        // `a && b` and `a || b` are variables without a name that each branch of a condition on `a` stores to. Where one store is
        // left, nothing loads the variable before it.
        let mut stores = HashMap::new();
        each_store(&function.body, &mut |pointer, value| {
            if let Expression::LocalVariable(variable) = function.expressions[pointer]
                && function.local_variables[variable].name.is_none()
            {
                stores.entry(variable).or_insert_with(Vec::new).push(known(value));
            }
        });
        let single = |(variable, values): (_, Vec<_>)| match values[..] {
            [Some(value)] => Some((variable, value)),
            _ => None,
        };
        let found: Decided = stores.into_iter().filter_map(single).collect();
        if found.len() == decided.len() {
            return match function.body.last() {
                Some(Statement::Return { value: Some(value) }) if is_straight(&function.body) => known(*value),
                _ => None,
            };
        }
        decided = found;
    }
}

/// Whether one statement follows the other.
fn is_straight(body: &Block) -> bool {
    let is_plain = |statement: &Statement| {
        matches!(statement, Statement::Emit(_) | Statement::Call { .. } | Statement::Store { .. } | Statement::Return { .. })
    };
    body.iter().all(is_plain)
}

fn each_store(block: &Block, visit: &mut impl FnMut(Handle<Expression>, Handle<Expression>)) {
    for statement in block {
        match statement {
            Statement::Store { pointer, value } => visit(*pointer, *value),
            Statement::If { accept, reject, .. } => {
                each_store(accept, visit);
                each_store(reject, visit);
            }
            Statement::Block(block) => each_store(block, visit),
            Statement::Loop { body, continuing, .. } => {
                each_store(body, visit);
                each_store(continuing, visit);
            }
            Statement::Switch { cases, .. } => cases.iter().for_each(|case| each_store(&case.body, visit)),
            _ => {}
        }
    }
}

/// The statements of a block that constants leave open.
fn open(block: Block, known: &impl Fn(Handle<Expression>) -> Option<bool>) -> Block {
    let open = |block| open(block, known);
    let mut result = Block::with_capacity(block.len());
    for (statement, span) in block.span_into_iter() {
        match statement {
            Statement::If { condition, accept, reject } => match known(condition) {
                Some(true) => result.append(&mut open(accept)),
                Some(false) => result.append(&mut open(reject)),
                None => result.push(Statement::If { condition, accept: open(accept), reject: open(reject) }, span),
            },
            Statement::Block(block) => result.push(Statement::Block(open(block)), span),
            Statement::Loop { body, continuing, break_if } => {
                result.push(Statement::Loop { body: open(body), continuing: open(continuing), break_if }, span);
            }
            Statement::Switch { selector, cases } => {
                let open = |case: SwitchCase| SwitchCase { body: open(case.body), ..case };
                result.push(Statement::Switch { selector, cases: cases.into_iter().map(open).collect() }, span);
            }
            other => result.push(other, span),
        }
        // A branch that is always taken may end the block, and nothing may follow then.
        if result.last().is_some_and(Statement::is_terminator) {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wgpu::ShaderSource;
    use wgpu::naga::ir::{Module, Statement};
    use wgpu::naga::valid::{Capabilities, ValidationFlags, Validator};

    use super::source;

    const TEXT: &str = "
        override FAST: bool;
        override DEPTH: u32;
        @group(0) @binding(0) var<storage, read_write> words: array<u32>;
        fn is_fast() -> bool { return FAST && (DEPTH > 1u || FAST); }
        fn fast(x: u32) -> u32 { return x + 1u; }
        fn slow(x: u32) -> u32 { let y = careful(x); return y; }
        fn is_deep(n: u32) -> bool { return DEPTH > 2u || n > 9u && FAST; }
        fn careful(x: u32) -> u32 { return x * 3u; }
        fn either(x: u32) -> u32 {
            if !is_fast() { let y = slow(x); return y; }
            for (var n = 0u; n < x; n++) {
                if !(FAST && !is_deep(n)) || n > 1000u { words[n] = 7u; } else { words[n] = slow(n); break; }
            }
            return fast(x);
        }
        @compute @workgroup_size(DEPTH) fn run(@builtin(local_invocation_index) x: u32) { words[x] = either(x); }
        @compute @workgroup_size(1) fn other() { words[0] = careful(1u); }";

    fn pruned(fast: bool, depth: u32) -> Module {
        let constants = [("FAST", f64::from(u8::from(fast))), ("DEPTH", f64::from(depth))];
        let (source, rest) = source(TEXT.to_owned(), "run", &constants);
        assert!(rest.is_empty());
        let ShaderSource::Naga(module) = source else { panic!("the text has no error") };
        let module = module.into_owned();
        let valid = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module);
        valid.unwrap_or_else(|error| panic!("{fast} {depth}: {error:?}"));
        assert_eq!(module.entry_points.len(), 1);
        assert_eq!(module.entry_points[0].workgroup_size, [depth, 1, 1]);
        module
    }

    fn functions(module: &Module) -> BTreeSet<&str> {
        module.functions.iter().filter_map(|(_, function)| function.name.as_deref()).collect()
    }

    #[test]
    fn what_constants_rule_out_is_gone() {
        assert_eq!(functions(&pruned(true, 3)), BTreeSet::from(["is_fast", "is_deep", "fast", "either"]));
        assert_eq!(functions(&pruned(true, 2)), BTreeSet::from(["is_fast", "is_deep", "fast", "either", "slow", "careful"]));
        let slow = pruned(false, 3);
        assert_eq!(functions(&slow), BTreeSet::from(["is_fast", "either", "slow", "careful"]));
        // Nothing follows a return.
        let (_, either) = slow.functions.iter().last().expect("functions");
        assert!(matches!(either.body.last(), Some(Statement::Return { .. })));
        assert!(!either.body.iter().any(|statement| matches!(statement, Statement::Loop { .. })));
    }

    #[test]
    fn errors_are_left_to_the_device() {
        for (text, constants) in
            [(TEXT, &[("FAST", 1.0)][..]), ("fn f() {", &[]), (TEXT, &[("FAST", 1.0), ("DEPTH", 1.0), ("MORE", 1.0)])]
        {
            let (source, rest) = source(text.to_owned(), "run", constants);
            assert!(matches!(source, ShaderSource::Wgsl(same) if same == text));
            assert_eq!(rest, constants);
        }
    }
}
