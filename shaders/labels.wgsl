// Class indices as the caller has them: nobody on the host need have looked at them.

// The class index of a row that does not count.
override IGNORED: u32;
// A class index that is none, though it looks like that of a row that does not count.
override BAD: u32;

// Labels as they are given, those of rows that do not count as IGNORED. What else is no class stays as it is.
fn known_classes(given: vec4<u32>) -> vec4<u32> {
    let ignored = (given == vec4<u32>(params.ignored)) & vec4<bool>(params.ignores != 0u);
    let stray = given == vec4<u32>(IGNORED);
    return select(select(given, vec4<u32>(BAD), stray), vec4<u32>(IGNORED), ignored);
}

fn given_class(row: u32) -> u32 {
    return targets[row / 4u][row % 4u];
}

fn load_class(row: u32) -> u32 {
    return known_classes(vec4<u32>(given_class(row))).x;
}
