//! Kernels without what their constants rule out. Mesa's drivers inline every function before they look at a condition: of the
//! instructions that they would go through, more than half belong to branches that constants close.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
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
/// it has an error, which the device then reports. Tests see to it that no kernel has one.
pub(super) fn source<'c>(text: String, entry: &str, constants: &'c [(&'static str, f64)]) -> Source<'c> {
    let pruned = || {
        let module = wgsl::parse_str(&text).ok()?;
        // The rest takes the module for valid. What a device has not, it refuses.
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
/// For constants that are missing or unknown, or that make an expression invalid.
pub(crate) fn pruned(
    module: &Module,
    info: &ModuleInfo,
    entry: &str,
    constants: &[(&'static str, f64)],
) -> Result<Module, Box<PipelineConstantError>> {
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
            Expression::Constant(constant) => {
                let init = &self.globals[self.constants[constant].init];
                self.known(self.globals, decided, init)
            }
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
    let mut decided = Decided::new();
    loop {
        let Function { body, expressions, local_variables, .. } = &mut *function;
        let known = |condition: Handle<Expression>| facts.known(expressions, &decided, &expressions[condition]);
        *body = open(mem::take(body), &known);
        // `a && b` and `a || b` come as a variable without a name or a first value, which both branches of a condition on `a` store
        // to, and which is loaded after that alone: where all stores that are left agree, it is that.
        let mut stored = HashMap::new();
        each_statement(body, &mut |statement| {
            if let Statement::Store { pointer, value } = *statement
                && let Expression::LocalVariable(variable) = expressions[pointer]
                && let LocalVariable { name: None, init: None, .. } = local_variables[variable]
            {
                let value = known(value);
                stored.entry(variable).and_modify(|all| *all = value.filter(|_| *all == value)).or_insert(value);
            }
        });
        let found: Decided = stored.into_iter().filter_map(|(variable, value)| Some((variable, value?))).collect();
        if found == decided {
            let returned = match body.last() {
                Some(Statement::Return { value: Some(value) }) if is_straight(body) => known(*value),
                _ => None,
            };
            forget_names(function);
            return returned;
        }
        decided = found;
    }
}

/// Takes the names of what is no longer computed: `compact` would keep what has one, if not the functions that it comes from.
fn forget_names(function: &mut Function) {
    let mut computed = HashSet::new();
    each_statement(&function.body, &mut |statement| match statement {
        Statement::Emit(range) => computed.extend(range.clone()),
        Statement::Call { result, .. } => computed.extend(*result),
        _ => {}
    });
    let expressions = &function.expressions;
    function.named_expressions.retain(|&name, _| computed.contains(&name) || expressions[name].needs_pre_emit());
}

/// Whether one statement follows the other.
fn is_straight(body: &Block) -> bool {
    let is_plain = |statement: &Statement| {
        matches!(statement, Statement::Emit(_) | Statement::Call { .. } | Statement::Store { .. } | Statement::Return { .. })
    };
    body.iter().all(is_plain)
}

fn each_statement(block: &Block, visit: &mut impl FnMut(&Statement)) {
    for statement in block {
        visit(statement);
        match statement {
            Statement::If { accept, reject, .. } => {
                each_statement(accept, visit);
                each_statement(reject, visit);
            }
            Statement::Block(block) => each_statement(block, visit),
            Statement::Loop { body, continuing, .. } => {
                each_statement(body, visit);
                each_statement(continuing, visit);
            }
            Statement::Switch { cases, .. } => cases.iter().for_each(|case| each_statement(&case.body, visit)),
            _ => {}
        }
    }
}

/// The statements of a block that constants leave open. (A `continuing` block may not use names of a loop's body: `for` and `while`
/// have none such, and we write no `loop`.)
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
        // A branch that is always taken may end the block: nothing after it runs.
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
