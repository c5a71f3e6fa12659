//! Checking and timing a backend, whatever it is.

use std::time::{Duration, Instant};

use super::case::Case;
use super::data::Data;
use super::descriptor::BenchDescriptor;
use super::report::{Clock, MachineReport, Measured, rate};
use super::{Progress, oracle};
use crate::Instructions;
use crate::error::Result;
use crate::evaluator::Backend;

/// Times a combination is timed before the next one has its turn.
const TURN: usize = 3;

/// A backend under measurement.
pub(super) trait Machine {
    fn backend(&self) -> Backend;
    fn adapter(&self) -> String;
    fn instructions(&self) -> Option<Instructions>;
    fn clock(&self) -> Clock;
    fn data(&self) -> &Data;
    /// What the yardsticks are.
    fn yardsticks(&self) -> [String; 2];

    /// What a case comes to; of the gradient these rows.
    fn answer(&mut self, case: &Case, rows: &[usize]) -> Result<Answer>;

    /// Brings the machine's clocks up, where they are down while there is little to do.
    fn warm_up(&mut self) -> Result<()> {
        Ok(())
    }

    /// The seconds of a case and of its yardstick (a copy where it writes, else a read), in turns.
    fn time(&mut self, case: &Case, times: usize) -> Result<Vec<[f64; 2]>>;

    /// The seconds of a read, or of a copy.
    fn time_yardstick(&mut self, copy: bool, times: usize) -> Result<Vec<f64>>;
}

/// What a backend says of a case.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub mean: Option<f64>,
    /// Of each row.
    pub losses: Option<Vec<f32>>,
    /// Of the rows asked for, one after the other.
    pub gradient: Option<Vec<f32>>,
}

/// Checks every case on a backend, then times them in rounds, so that none has a moment of its own.
pub(super) fn measure(
    machine: &mut dyn Machine,
    descriptor: &BenchDescriptor,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<MachineReport> {
    let cases = descriptor.cases();
    let (adapter, clock) = (machine.adapter(), machine.clock());
    let rounds = descriptor.repeat.div_ceil(TURN);
    let steps = cases.len().saturating_mul(1 + rounds);
    let mut done = 0;
    let mut step = |checking| {
        progress(Progress { adapter: &adapter, checking, done, steps });
        done += 1;
    };

    let mut known = oracle::Truth::default();
    for case in &cases {
        step(true);
        oracle::check(machine, case, &mut known)?;
    }
    machine.warm_up()?;
    let mut seconds = vec![Vec::new(); cases.len()];
    // Reads and copies.
    let mut yardsticks = [Vec::new(), Vec::new()];
    let started = Instant::now();
    let most = Duration::try_from_secs_f64(descriptor.seconds).unwrap_or(Duration::MAX);
    // How many times each is timed in a round, of as many rounds as there is time for, and one in any case.
    let turns = || {
        let in_time = (0..rounds).take_while(|&round| round == 0 || started.elapsed() < most);
        in_time.map(|round| TURN.min(descriptor.repeat - round * TURN))
    };
    for times in turns() {
        for (case, seconds) in cases.iter().zip(&mut seconds) {
            step(false);
            for [of_case, of_yardstick] in machine.time(case, times)? {
                seconds.push(of_case);
                yardsticks[usize::from(case.pass.writes())].push(of_yardstick);
            }
        }
    }
    for (copy, seconds) in [false, true].into_iter().zip(&mut yardsticks) {
        if !seconds.is_empty() {
            continue;
        }
        // No pass took turns with it.
        for times in turns() {
            seconds.extend(machine.time_yardstick(copy, times)?);
        }
    }
    let [read, copy] = yardsticks.map(median);
    let bytes = machine.data().bytes();
    let results = cases.iter().zip(seconds).map(|(&case, seconds)| {
        let rows = machine.data().rows(case.classes);
        Measured { case, rows, bytes: case.bytes(rows), seconds: median(seconds) }
    });
    Ok(MachineReport {
        results: results.collect(),
        backend: machine.backend(),
        clock,
        bytes,
        read_gbs: rate(bytes, read),
        copy_gbs: rate(2 * bytes, copy),
        instructions: machine.instructions(),
        yardsticks: machine.yardsticks(),
        adapter,
    })
}

/// The middle of the values, the lower one of two. Not a number where there are none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::super::case::{Pass, TargetKind};
    use super::super::cpu::Cpu;
    use super::super::descriptor::Machines;
    use super::super::report::{MachineFailure, Report};
    use super::*;
    use crate::error::Error;
    use crate::layout::Element;
    use crate::loss::Input;

    type Lie = fn(&mut Answer);

    /// Leaves the last value out.
    fn cut(values: &mut Option<Vec<f32>>) {
        values.as_mut().and_then(Vec::pop);
    }

    /// Makes other values of those at some places.
    fn each(values: &mut Option<Vec<f32>>, places: Range<usize>, other: fn(f32) -> f32) {
        let values = values.iter_mut().flatten().enumerate();
        values.filter(|(place, _)| places.contains(place)).for_each(|(_, value)| *value = other(*value));
    }

    /// The CPU, which lies in its answers to a pass.
    struct Liar<'a> {
        cpu: Cpu<'a>,
        lie: Lie,
        pass: Pass,
        timed: bool,
        /// The seconds of a case, of a read and of a copy, if these are made up.
        pace: Option<[f64; 3]>,
    }

    impl Machine for Liar<'_> {
        fn backend(&self) -> Backend {
            self.cpu.backend()
        }

        fn adapter(&self) -> String {
            "a liar".into()
        }

        fn instructions(&self) -> Option<Instructions> {
            self.cpu.instructions()
        }

        fn clock(&self) -> Clock {
            self.cpu.clock()
        }

        fn data(&self) -> &Data {
            self.cpu.data()
        }

        fn yardsticks(&self) -> [String; 2] {
            self.cpu.yardsticks()
        }

        fn answer(&mut self, case: &Case, rows: &[usize]) -> Result<Answer> {
            let mut answer = self.cpu.answer(case, rows)?;
            if case.pass == self.pass {
                (self.lie)(&mut answer);
            }
            Ok(answer)
        }

        fn time(&mut self, case: &Case, times: usize) -> Result<Vec<[f64; 2]>> {
            self.timed = true;
            match self.pace {
                Some([seconds, read, copy]) => Ok(vec![[seconds, if case.pass.writes() { copy } else { read }]; times]),
                None => self.cpu.time(case, times),
            }
        }

        fn time_yardstick(&mut self, copy: bool, times: usize) -> Result<Vec<f64>> {
            self.timed = true;
            match self.pace {
                Some([_, of_read, of_copy]) => Ok(vec![if copy { of_copy } else { of_read }; times]),
                None => self.cpu.time_yardstick(copy, times),
            }
        }
    }

    fn descriptor() -> BenchDescriptor {
        BenchDescriptor {
            machines: Machines::Cpu,
            classes: vec![1, 2, 10, 100, 1000],
            elements: vec![Element::F32, Element::F16, Element::Bf16],
            inputs: vec![Input::Logits, Input::Probabilities, Input::LogProbabilities],
            bytes: Some(40_000),
            repeat: 1,
            ..BenchDescriptor::default()
        }
    }

    /// What becomes of a run, and whether anything was timed in it.
    fn run(descriptor: &BenchDescriptor, pass: Pass, lie: Lie) -> (Result<MachineReport>, bool) {
        let data = Data::new(descriptor, descriptor.bytes.unwrap_or(0));
        let cpu = Cpu::new(&data, Instructions::Portable).expect("every processor has these");
        let mut liar = Liar { cpu, lie, pass, timed: false, pace: None };
        let report = measure(&mut liar, descriptor, &mut |_| ());
        (report, liar.timed)
    }

    #[test]
    fn right_answers_are_timed() {
        let descriptor = descriptor();
        let (report, timed) = run(&descriptor, Pass::Both, |_| ());
        let report = report.expect("every answer is right");
        assert!(timed);
        assert_eq!(report.results.len(), 5 * 3 * 2 * 3 * 3);
        for result in &report.results {
            assert!(result.seconds > 0.0 && result.rows == 10_000 / result.case.classes, "{result:?}");
            assert!(report.fraction(result) > 0.0, "{result:?}");
        }
    }

    #[test]
    fn a_wrong_answer_is_an_error_and_nothing_is_timed() {
        let lies: [(Pass, &str, Lie); 12] = [
            (Pass::Forward, "a mean", |answer| answer.mean = answer.mean.map(|mean| mean * 1.00001)),
            (Pass::Forward, "a mean that is none", |answer| answer.mean = Some(f64::NAN)),
            (Pass::Forward, "no mean", |answer| answer.mean = None),
            (Pass::Gradient, "no gradient", |answer| answer.gradient = None),
            (Pass::Gradient, "a gradient that ends early", |answer| cut(&mut answer.gradient)),
            (Pass::Gradient, "nothing written", |answer| each(&mut answer.gradient, 0..usize::MAX, |_| f32::NAN)),
            (Pass::Gradient, "another scale", |answer| each(&mut answer.gradient, 0..usize::MAX, |x| x * 1.001)),
            (Pass::Gradient, "one element", |answer| each(&mut answer.gradient, 3..4, |x| x + 1e-4)),
            (Pass::Both, "no losses", |answer| answer.losses = None),
            (Pass::Both, "a loss too few", |answer| cut(&mut answer.losses)),
            (Pass::Both, "one loss", |answer| each(&mut answer.losses, 7..8, |x| x * 1.00001)),
            (Pass::Both, "a row unwritten", |answer| each(&mut answer.losses, 0..1, |_| f32::NAN)),
        ];
        for targets in [TargetKind::Sparse, TargetKind::Dense] {
            for input in [Input::Logits, Input::Probabilities] {
                let descriptor =
                    BenchDescriptor { classes: vec![100], targets: vec![targets], inputs: vec![input], ..descriptor() };
                for (pass, what, lie) in lies {
                    let (report, timed) = run(&descriptor, pass, lie);
                    let Err(Error::WrongAnswer { case, adapter, .. }) = report else { panic!("{what}: {report:?}") };
                    assert!(case.starts_with(pass.name()) && adapter == "a liar", "{what}: {case} on {adapter}");
                    assert!(!timed, "{what}");
                }
            }
        }
    }

    #[test]
    fn a_report_has_what_failed_beside_the_rest() {
        let descriptor = BenchDescriptor { classes: vec![10], ..descriptor() };
        let mut report = Report::default();
        let lies: [Lie; 3] = [|_| (), |answer| answer.gradient = None, |_| ()];
        for lie in lies {
            report.add(Backend::Cpu, "a liar".into(), run(&descriptor, Pass::Gradient, lie).0);
        }
        assert_eq!((report.machines.len(), report.failures.len()), (2, 1));
        let MachineFailure { backend, adapter, error } = &report.failures[0];
        assert_eq!((backend, adapter.as_str()), (&Backend::Cpu, "a liar"));
        assert!(matches!(error, Error::WrongAnswer { .. }), "{error}");
    }

    #[test]
    fn fractions_are_of_what_is_moved_by_a_read_or_a_copy_in_the_same_time() {
        for passes in [vec![Pass::Forward], vec![Pass::Gradient, Pass::Both], vec![Pass::Forward, Pass::Gradient]] {
            let (elements, inputs) = (vec![Element::F32], vec![Input::Logits]);
            let descriptor = BenchDescriptor { classes: vec![10], elements, inputs, passes, ..descriptor() };
            let data = Data::new(&descriptor, 40_000);
            let cpu = Cpu::new(&data, Instructions::Portable).expect("every processor has these");
            let pace = Some([4e-6, 2e-6, 5e-6]);
            let mut machine = Liar { cpu, lie: |_| (), pass: Pass::Forward, timed: false, pace };
            let report = measure(&mut machine, &descriptor, &mut |_| ()).expect("every answer is right");
            // A copy moves each byte twice.
            let near = |got: f64, want: f64| (got / want - 1.0).abs() < 1e-12;
            assert!(near(report.read_gbs, 20.0) && near(report.copy_gbs, 16.0), "{report:?}");
            for result in &report.results {
                let of_read = result.bytes as f64 / 4e-6 / 1e9 / 20.0;
                let fraction = if result.case.pass == Pass::Forward { of_read } else { of_read * 20.0 / 16.0 };
                assert!(near(report.fraction(result), fraction), "{result:?}: {}", report.fraction(result));
            }
        }
    }

    #[test]
    fn time_that_is_up_ends_a_run_after_a_round() {
        for passes in [vec![Pass::Forward], vec![Pass::Gradient, Pass::Both]] {
            let few = BenchDescriptor { classes: vec![10], passes, repeat: usize::MAX, seconds: 0.0, ..descriptor() };
            assert!(run(&few, Pass::Both, |_| ()).0.is_ok());
        }
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
