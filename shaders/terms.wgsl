// What a loss does with its classes once their row is folded: sums of terms, the record of a row, its gradient.
// Twin: src/cpu/terms.rs.

// From here on, 2^96, a term is kept apart.
const BEYOND: f32 = 7.922816251426434e28;

fn no_terms() -> Terms {
    return Terms(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0u);
}

fn merge_terms(a: Terms, b: Terms) -> Terms {
    return Terms(
        a.loss + b.loss,
        a.beyond + b.beyond,
        a.pull + b.pull,
        a.plain + b.plain,
        a.entropy + b.entropy,
        a.brier + b.brier,
        a.special | b.special,
    );
}

// Brings a probability within the clip bounds. Near 1 the logarithm has digits that p has not: it decides.
fn clip(before: Share) -> Share {
    var class_share = before;
    class_share.clipped =
        before.clipped | (before.surprise > params.farthest) | (before.surprise < params.nearest);
    class_share.surprise = clamp(class_share.surprise, params.nearest, params.farthest);
    class_share.p = clamp(class_share.p, params.lowest, params.highest);
    class_share.rest = clamp(class_share.rest, 1.0 - params.highest, 1.0 - params.lowest);
    class_share.special = 0u;
    return class_share;
}

// Whether the row's terms need a second walk.
fn sums_terms() -> bool {
    return SPREAD && !CLOSED;
}

// Whether anything needs one.
fn walks_twice() -> bool {
    return sums_terms() || CALIBRATED;
}

fn block_terms(folded: Row, block: Block, label: Label) -> Terms {
    var loss = vec4<f32>(0.0);
    var beyond = vec4<f32>(0.0);
    var slope = vec4<f32>(0.0);
    var plain = vec4<f32>(0.0);
    var entropy = vec4<f32>(0.0);
    var brier = vec4<f32>(0.0);
    var flags = 0u;
    for (var i = 0u; i < 4u; i++) {
        if block.present[i] {
            let class_share = share(folded, block.bits[i]);
            if sums_terms() {
                let t = term(class_share, block.coefficient[i], block.given[i]);
                if is_linear() && abs(class_share.surprise) >= BEYOND {
                    beyond[i] = block.coefficient[i] * small_surprise(folded, class_share);
                } else {
                    loss[i] = t.loss;
                }
                slope[i] = t.slope;
                flags |= special(class_share, block.coefficient[i], block.given[i]);
            }
            if CALIBRATED {
                if block.given[i] != 0.0 && class_share.special == 0u {
                    plain[i] = block.given[i] * class_share.surprise;
                } else if block.given[i] != 0.0 {
                    flags |= signed_special(class_share.special, block.given[i]) << PLAIN;
                }
                let raw = unclipped(folded, block.bits[i]);
                entropy[i] = raw.p * raw.surprise;
                let distance = select(raw.p, raw.rest, block.classes[i] == label.class_index);
                brier[i] = distance * distance;
            }
        }
    }
    return Terms(sum(loss), sum(beyond), sum(slope), sum(plain), sum(entropy), sum(brier), flags);
}

// The row's terms: from the second walk where that summed them, else from the state or the label alone.
fn row_terms(folded: Row, walked: Terms, label: Label) -> Terms {
    if CLOSED {
        return closed_terms(folded, label);
    }
    if SPREAD {
        return walked;
    }
    let class_share = share(folded, label.bits);
    let t = term(class_share, label.weight, 1.0);
    return Terms(t.loss, 0.0, t.slope, 0.0, 0.0, 0.0, special(class_share, label.weight, 1.0));
}

// Sums with a NaN among their terms, or with infinities of both signs.
fn is_no_number(flags: u32) -> bool {
    return (flags & UNDEFINED) != 0u || (flags & (RISING | FALLING)) == (RISING | FALLING);
}

// The bits of a sum, given the sum of its finite terms and what the others were.
fn with_special(flags: u32, finite: f32) -> u32 {
    if is_no_number(flags) {
        return NAN;
    }
    if (flags & RISING) != 0u {
        return INFINITE;
    }
    if (flags & FALLING) != 0u {
        return NEGATIVE_INFINITE;
    }
    return bitcast<u32>(finite);
}

fn row_loss(folded: Row, terms: Terms) -> u32 {
    if is_undefined(folded) {
        return NAN;
    }
    let extra = extra_loss(folded);
    let rising = select(0u, RISING, extra > LARGEST);
    return with_special(terms.special | rising, fma(terms.beyond, UNSMALL, terms.loss) + extra);
}

// The record of a row. Of one that does not count (`ignored`) the loss is 0, whatever it holds, and so is all else but the
// logsumexp.
fn write_record(row: u32, folded: Row, terms: Terms, walked: Terms, rank: Rank, undefined: bool, ignored: bool) {
    let at = row * FIELDS;
    records[at] = select(select(row_loss(folded, terms), NAN, undefined), 0u, ignored);
    if RANKED {
        records[at + RANK_FIELD] = select(select(finish_rank(rank), RANK_NAN, undefined), 0u, ignored);
    }
    let empty = is_undefined(folded);
    if LOGSUMEXP {
        records[at + LOGSUMEXP_FIELD] = select(bitcast<u32>(logsumexp(folded)), NAN, empty);
    }
    if CALIBRATED {
        let bad = empty || undefined;
        let plain = select(with_special(walked.special >> PLAIN, walked.plain), NAN, bad);
        records[at + PLAIN_FIELD] = select(plain, 0u, ignored);
        records[at + ENTROPY_FIELD] = select(select(bitcast<u32>(walked.entropy), NAN, bad), 0u, ignored);
        records[at + BRIER_FIELD] = select(select(bitcast<u32>(walked.brier), NAN, bad), 0u, ignored);
        records[at + CONFIDENCE_FIELD] = select(select(bitcast<u32>(confidence(folded)), NAN, bad), 0u, ignored);
    }
}

// The gradient of one class.
fn class_gradient(row: Finished, bits: u32, coefficient: f32, given: f32) -> f32 {
    let class_share = share(row.folded, bits);
    let t = term(class_share, coefficient, given);
    return through(row.folded, bits, class_share, t.slope, row.terms.pull) * row.scale;
}

// The gradient of a block.
fn block_gradient(row: Finished, block: Block) -> vec4<f32> {
    if has_short_gradient() {
        let others = through_others(row.folded, row.of_others, block.bits);
        return select(others, vec4<f32>(row.of_label), block.classes == vec4<u32>(row.label));
    }
    var derivatives: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        derivatives[i] = class_gradient(row, block.bits[i], block.coefficient[i], block.given[i]);
    }
    return derivatives;
}
