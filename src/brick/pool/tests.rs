//! Of the workers and their queue.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

const LONG: Duration = Duration::from_secs(20);

fn file(n: u8) -> Key {
    Key::File(Gfid::from_bytes([n; 16]))
}

fn now(turn: &Turn) -> bool {
    matches!(turn, Turn::Now(_))
}

#[test]
fn one_file_in_order_and_never_twice_at_once() {
    let pool = Pool::new(|| (), |_| ());
    let (send, seen) = mpsc::channel();
    let inside = Arc::new(AtomicUsize::new(0));
    for n in 0..200 {
        let (send, inside) = (send.clone(), Arc::clone(&inside));
        pool.submit(vec![file(1)], move |turn| {
            assert_eq!((now(&turn), inside.fetch_add(1, Ordering::SeqCst)), (true, 0));
            thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
            send.send(n).unwrap();
        });
    }
    drop((pool, send));
    assert_eq!(seen.iter().collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
}

#[test]
fn different_files_run_side_by_side() {
    let pool = Pool::new(|| (), |_| ());
    let (first, second) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let (done, all) = mpsc::channel();
    let other = done.clone();
    // Each waits for the other: they finish only if both run at once.
    pool.submit(vec![file(1)], move |_| {
        first.0.send(()).unwrap();
        done.send(second.1.recv_timeout(LONG).is_ok()).unwrap();
    });
    pool.submit(vec![file(2)], move |_| {
        second.0.send(()).unwrap();
        other.send(first.1.recv_timeout(LONG).is_ok()).unwrap();
    });
    assert_eq!(all.iter().collect::<Vec<_>>(), [true, true]);
}

#[test]
fn who_waits_too_long_is_told() {
    let pool = Pool::with_patience(Duration::from_millis(20), || (), |_| ());
    let (go, wait) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    pool.submit(vec![file(1)], move |_turn| wait.recv_timeout(LONG).unwrap());
    pool.submit(vec![file(1)], move |turn| tell.send(now(&turn)).unwrap());
    assert_eq!(told.recv_timeout(LONG), Ok(false));
    go.send(()).unwrap();
}

#[test]
fn a_panic_ends_with_its_task() {
    let pool = Pool::new(|| (), |_| ());
    for _ in 0..2 * WORKERS {
        pool.submit(vec![file(1)], |_| panic!("on purpose"));
    }
    let (tell, told) = mpsc::channel();
    pool.submit(vec![file(1)], move |turn| tell.send(now(&turn)).unwrap());
    assert_eq!(told.recv_timeout(LONG), Ok(true));
}

#[test]
fn dropping_the_pool_finishes_what_waits() {
    let done = Arc::new(AtomicUsize::new(0));
    let pool = Pool::new(|| (), |_| ());
    for n in 0..100 {
        let done = Arc::clone(&done);
        pool.submit(vec![file(n % 7)], move |_| {
            done.fetch_add(1, Ordering::SeqCst);
        });
    }
    drop(pool);
    assert_eq!(done.load(Ordering::SeqCst), 100);
}

#[test]
fn closing_waits_for_what_runs_and_turns_away_what_waits() {
    let pool = Pool::new(|| (), |_| ());
    let (tell, told) = mpsc::channel();
    for _ in 0..10 {
        let tell = tell.clone();
        pool.submit(vec![file(1)], move |turn| {
            std::thread::sleep(Duration::from_millis(20));
            tell.send(now(&turn)).unwrap();
        });
    }
    pool.close();
    let turns: Vec<_> = told.try_iter().collect();
    assert_eq!(turns.len(), 10);
    assert!(turns.contains(&false));
    pool.submit(vec![file(1)], move |turn| assert!(!now(&turn)));
    pool.reopen();
    pool.submit(vec![file(1)], move |turn| tell.send(now(&turn)).unwrap());
    assert_eq!(told.recv_timeout(LONG), Ok(true));
}

#[test]
fn a_task_of_two_files_waits_for_both() {
    let pool = Pool::new(|| (), |_| ());
    let inside = Arc::new(AtomicUsize::new(0));
    for n in 0..60 {
        let inside = Arc::clone(&inside);
        let files = if n % 3 == 0 { vec![file(1), file(2)] } else { vec![file(1 + n % 2)] };
        let weight = if files.len() == 2 { 100 } else { 1 };
        pool.submit(files, move |_turn| {
            let others = inside.fetch_add(weight, Ordering::SeqCst);
            assert!(others < 100 && (weight == 1 || others == 0), "{others} {weight}");
            thread::yield_now();
            inside.fetch_sub(weight, Ordering::SeqCst);
        });
    }
    drop(pool);
    assert_eq!(inside.load(Ordering::SeqCst), 0);
}

#[test]
fn what_is_short_does_not_wait_for_long_ones() {
    let pool = Pool::with_patience(Duration::from_millis(20), || (), |_| ());
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let (tell, told) = mpsc::channel();
    for n in 0..WORKERS + 1 {
        let (wait, tell) = (Arc::clone(&wait), tell.clone());
        pool.submit(vec![file(n as u8)], move |turn| {
            tell.send(now(&turn)).unwrap();
            if now(&turn) {
                let _ = wait.lock().unwrap().recv_timeout(LONG);
            }
        });
    }
    for _ in 0..WORKERS {
        assert_eq!(told.recv_timeout(LONG), Ok(true));
    }
    assert_eq!(told.recv_timeout(LONG), Ok(false), "one too many, and told so in time");
    for n in 100..110 {
        let tell = tell.clone();
        pool.submit_short(vec![file(n)], move |turn| tell.send(now(&turn)).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok(true));
    }
    drop(go);
}

#[test]
fn questions_wait_for_no_command() {
    let pool = Pool::with_patience(LONG, || (), |_| ());
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let (tell, told) = mpsc::channel();
    let stay = |all: usize, submit: &dyn Fn(Vec<Key>, Task)| {
        for n in 0..all {
            let (wait, tell) = (Arc::clone(&wait), tell.clone());
            submit(
                vec![file(n as u8)],
                Box::new(move |turn| {
                    tell.send(now(&turn)).unwrap();
                    let _ = wait.lock().unwrap().recv_timeout(LONG);
                }),
            );
        }
    };
    stay(WORKERS, &|keys, task| pool.submit(keys, task));
    stay(SPARE, &|_, task| pool.submit_short(vec![], task));
    for _ in 0..WORKERS + SPARE {
        assert_eq!(told.recv_timeout(LONG), Ok(true));
    }
    // More than can run, and more than may wait.
    for _ in 0..QUEUE + 1 {
        pool.submit(vec![file(200)], |_turn| ());
    }
    pool.submit_short(vec![], |_turn| ());
    for n in 0..10 {
        let tell = tell.clone();
        let keys = if n % 2 == 0 { vec![] } else { vec![file(100)] };
        pool.submit_question(keys, move |turn| tell.send(now(&turn)).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok(true));
    }
    // But one that wants what a command has.
    let late = tell.clone();
    pool.submit_question(vec![file(0)], move |_turn| late.send(false).unwrap());
    pool.submit_question(vec![], move |turn| tell.send(now(&turn)).unwrap());
    assert_eq!(told.recv_timeout(LONG), Ok(true));
    drop(go);
    assert_eq!(told.recv_timeout(LONG), Ok(false));
}

#[test]
fn who_enters_keeps_others_out_and_waits_for_nobody() {
    let pool = Pool::new(|| (), |_| ());
    let inside = pool.enter(&[file(1), Key::name(Gfid::ROOT, b"f")]).expect("nobody is there");
    assert!(pool.enter(&[file(2), Key::name(Gfid::ROOT, b"f")]).is_none());
    assert!(pool.enter(&[file(2), Key::name(Gfid::ROOT, b"g")]).is_some());
    let (tell, told) = mpsc::channel();
    pool.submit(vec![file(1), file(3)], move |turn| tell.send(turn.in_time()).unwrap());
    assert!(pool.enter(&[file(3)]).is_none(), "somebody waits for it");
    assert!(told.try_recv().is_err());
    drop(inside);
    let turn = told.recv_timeout(LONG).unwrap().expect("its turn has come");
    assert!(pool.enter(&[file(1)]).is_none(), "kept beyond the task's end");
    drop(turn);
    assert!(pool.enter(&[file(1)]).is_some());
}

#[test]
fn what_is_for_later_comes_later_and_leaves_room() {
    let pool = Pool::new(|| (), |_| ());
    let (tell, told) = mpsc::channel();
    let start = Instant::now();
    let pause = Duration::from_millis(50);
    for n in 0..2 * QUEUE {
        let tell = tell.clone();
        pool.submit_after(pause, vec![file(n as u8)], move |turn| tell.send((n, now(&turn))).unwrap());
    }
    pool.submit(vec![file(1)], move |turn| tell.send((QUEUE * 2, now(&turn))).unwrap());
    assert_eq!(told.recv_timeout(LONG), Ok((QUEUE * 2, true)));
    for _ in 0..2 * QUEUE {
        assert!(told.recv_timeout(LONG).unwrap().1);
    }
    assert!(start.elapsed() >= pause);
    let (tell, told) = mpsc::channel();
    pool.submit_after(LONG, vec![file(1)], move |turn| tell.send(now(&turn)).unwrap());
    drop(pool);
    assert_eq!(told.recv_timeout(Duration::ZERO), Ok(false));
}

#[test]
fn what_comes_first_comes_before_whoever_has_the_keys() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    let pool = Pool::new(|| (), move |keys| all.lock().unwrap().push(keys.to_vec()));
    let (tell, told) = mpsc::channel();
    let all = Arc::clone(&seen);
    pool.submit(vec![file(1), file(2)], move |_turn| tell.send(all.lock().unwrap().clone()).unwrap());
    assert_eq!(told.recv_timeout(LONG), Ok(vec![vec![file(1), file(2)]]));
    drop(pool.enter(&[file(3)]).expect("nobody is there"));
    assert_eq!(seen.lock().unwrap().last(), Some(&vec![file(3)]));
}

/// One worker is woken, which wakes the next.
#[test]
fn all_who_wait_for_keys_go_on_when_these_come_free() {
    let pool = Pool::new(|| {}, |_| {});
    let entered = pool.enter(&[file(1), file(2), file(3)]).unwrap();
    let (send, started) = mpsc::channel();
    let all = Arc::new(std::sync::Barrier::new(3));
    for n in 1..=3 {
        let (send, all) = (send.clone(), Arc::clone(&all));
        pool.submit(vec![file(n)], move |turn| {
            assert!(now(&turn));
            all.wait();
            send.send(n).unwrap();
        });
    }
    // They look, and go to sleep.
    thread::sleep(Duration::from_millis(50));
    assert!(started.try_recv().is_err());
    drop(entered);
    for _ in 1..=3 {
        started.recv_timeout(LONG).expect("all at once");
    }
}

/// Whoever minded what is due may be at work when it is.
#[test]
fn what_is_due_is_minded_by_another_worker() {
    let pool = Pool::new(|| {}, |_| {});
    let (send, done) = mpsc::channel();
    let later = send.clone();
    pool.submit_after(Duration::from_millis(100), Vec::new(), move |_| later.send("later").unwrap());
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    for n in 0..3 {
        let (send, wait) = (send.clone(), Arc::clone(&wait));
        pool.submit(vec![file(n)], move |_| {
            let _ = wait.lock().unwrap().recv_timeout(LONG);
            send.send("long").unwrap();
        });
    }
    assert_eq!(done.recv_timeout(LONG / 2), Ok("later"));
    drop(go);
}

/// Those that wait meanwhile leave no room for it until their key comes free.
#[test]
fn what_is_due_comes_when_those_before_it_are_gone() {
    for _ in 0..20 {
        let pool = Pool::new(|| (), |_| ());
        let (tell, told) = mpsc::channel();
        let key = pool.enter(&[file(1)]).unwrap();
        for _ in 0..WORKERS {
            let tell = tell.clone();
            pool.submit(vec![file(1)], move |_| tell.send("soon").unwrap());
        }
        let later = tell.clone();
        pool.submit_after(Duration::from_millis(60), Vec::new(), move |_| later.send("later").unwrap());
        thread::sleep(Duration::from_millis(10));
        drop(key);
        let seen: Vec<_> =
            (0..=WORKERS).map_while(|_| told.recv_timeout(Duration::from_secs(2)).ok()).collect();
        assert_eq!(seen, [&["soon"; WORKERS][..], &["later"]].concat());
    }
}
