use std::sync::Mutex;
use std::time::Duration;

use super::*;

type Log = Arc<Mutex<Vec<&'static str>>>;

/// What the next lookups come to, the last one for ever.
#[derive(Clone, Default)]
struct Script {
    outcomes: Arc<Mutex<Vec<Outcome<u32>>>>,
    asked: Log,
}

impl Script {
    fn new(outcomes: Vec<Outcome<u32>>) -> Self {
        Self { outcomes: Arc::new(Mutex::new(outcomes)), asked: Log::default() }
    }

    fn ask(&self) -> Ask<&'static str, u32> {
        let script = self.clone();
        Arc::new(move |key| {
            let script = script.clone();
            Box::pin(async move {
                script.asked.lock().unwrap().push(key);
                let mut outcomes = script.outcomes.lock().unwrap();
                if outcomes.len() > 1 { outcomes.remove(0) } else { outcomes[0].clone() }
            })
        })
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn found(value: u32, ttl: u64) -> Found<u32> {
    Found { value, ttl: Duration::from_secs(ttl), left_out: 0 }
}

fn failed() -> Outcome<u32> {
    Err(Miss::failed("dead"))
}

fn watch(script: &Script) -> (Watch<&'static str, u32>, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Watch::new(script.ask(), Arc::clone(&counters)), counters)
}

/// The next change, and after how many seconds it came.
async fn next(watch: &mut Watch<&'static str, u32>) -> (u64, Vec<(&'static str, Answer<u32>)>) {
    let before = Instant::now();
    let changes = watch.changed().await;
    (before.elapsed().as_secs(), changes)
}

/// Whether nothing changes within so many seconds.
async fn quiet(watch: &mut Watch<&'static str, u32>, seconds: u64) -> bool {
    tokio::time::timeout(Duration::from_secs(seconds), watch.changed()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_asked_for_again_when_it_ends_and_told_when_it_is_another() {
    let script = Script::new(vec![Ok(found(1, 60)), Ok(found(1, 60)), Ok(found(2, 3600))]);
    let (mut watch, _) = watch(&script);
    watch.follow("a");
    watch.follow("a");
    assert!(watch.is_waiting());
    assert_eq!(next(&mut watch).await, (0, vec![("a", Ok(1))]));
    assert!(!watch.is_waiting());
    let (after, changes) = next(&mut watch).await;
    assert_eq!(changes, [("a", Ok(2))]);
    assert!((120..=132).contains(&after), "{after}");
    assert_eq!(script.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_more_than_once_a_second() {
    let script = Script::new(vec![Ok(found(1, 0))]);
    let (mut watch, _) = watch(&script);
    watch.follow("a");
    next(&mut watch).await;
    assert!(quiet(&mut watch, 10).await);
    assert!((9..=11).contains(&script.asked()), "{}", script.asked());
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_once_retried_with_growing_pauses_and_counted() {
    let script = Script::new(vec![Ok(found(1, 5)), failed()]);
    let (mut watch, counters) = watch(&script);
    watch.follow("a");
    next(&mut watch).await;
    assert_eq!(next(&mut watch).await.1, [("a", Err("dead".into()))]);
    assert_eq!((counters.stale(), counters.failures()), (1, 1));
    // After 1, 2, 4, 8 and 16 seconds, then every 30.
    assert!(quiet(&mut watch, 100).await);
    assert!((7..=9).contains(&counters.failures()), "{}", counters.failures());
    *script.outcomes.lock().unwrap() = vec![Ok(found(1, 5))];
    assert_eq!(next(&mut watch).await.1, [("a", Ok(1))]);
    assert_eq!(counters.stale(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_not_asked_for() {
    let script = Script::new(vec![Ok(found(1, 1))]);
    let (mut watch, counters) = watch(&script);
    watch.follow("a");
    watch.follow("b");
    next(&mut watch).await;
    *script.outcomes.lock().unwrap() = vec![failed()];
    while counters.stale() < 2 {
        next(&mut watch).await;
    }
    watch.forget(&"a");
    watch.forget(&"b");
    assert_eq!(counters.stale(), 0);
    let asked = script.asked();
    assert!(quiet(&mut watch, 1000).await);
    assert_eq!(script.asked(), asked);
    // Once more, as if never seen.
    *script.outcomes.lock().unwrap() = vec![Ok(found(1, 1))];
    watch.follow("a");
    assert_eq!(next(&mut watch).await.1, [("a", Ok(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_asks_for_all_again_at_once() {
    let script = Script::new(vec![Ok(found(1, 3600))]);
    let (mut watch, _) = watch(&script);
    watch.follow("a");
    watch.follow("b");
    while watch.is_waiting() {
        next(&mut watch).await;
    }
    let other = Script::new(vec![Ok(found(2, 3600))]);
    watch.refresh(other.ask());
    let mut changes = Vec::new();
    while changes.len() < 2 {
        let (after, more) = next(&mut watch).await;
        assert_eq!(after, 0);
        changes.extend(more);
    }
    changes.sort_unstable_by_key(|(key, _)| *key);
    assert_eq!(changes, [("a", Ok(2)), ("b", Ok(2))]);
    assert_eq!((script.asked(), other.asked()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn many_lookups_wait_for_one_another_and_a_panic_is_a_failure() {
    let running = Arc::new(Mutex::new((0usize, 0usize)));
    let seen = Arc::clone(&running);
    let ask: Ask<u32, u32> = Arc::new(move |key| {
        let running = Arc::clone(&seen);
        Box::pin(async move {
            {
                let mut running = running.lock().unwrap();
                running.0 += 1;
                running.1 = running.1.max(running.0);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            running.lock().unwrap().0 -= 1;
            assert!(key != 7, "a lookup that goes wrong");
            Ok(found(key, 3600))
        })
    });
    let mut watch = Watch::new(ask, Arc::default());
    (0..1000).for_each(|key| watch.follow(key));
    let mut answers = HashMap::new();
    while watch.is_waiting() {
        answers.extend(watch.changed().await);
    }
    assert_eq!(answers.len(), 1000);
    assert!(answers.iter().all(|(key, answer)| answer.is_ok() == (*key != 7)));
    assert_eq!(running.lock().unwrap().1, AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_to_the_end_misses_nothing() {
    let script = Script::new(vec![Ok(found(1, 3600))]);
    let (mut watch, _) = watch(&script);
    watch.follow("a");
    for _ in 0..3 {
        assert!(tokio::time::timeout(Duration::ZERO, std::future::pending::<()>()).await.is_err());
        let changes = tokio::time::timeout(Duration::ZERO, watch.changed()).await;
        if let Ok(changes) = changes {
            assert_eq!(changes, [("a", Ok(1))]);
            return;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(next(&mut watch).await.1, [("a", Ok(1))]);
}
