//! The fuzz targets' seeds, as plain tests.

use std::fs;
use std::path::Path;

use crate::checks::TARGETS;

#[test]
fn seeds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    assert_eq!(fs::read_dir(&corpus).unwrap().count(), TARGETS.len());
    for (target, check) in TARGETS {
        let mut seeds = 0;
        for seed in fs::read_dir(corpus.join(target)).unwrap() {
            let path = seed.unwrap().path();
            println!("{}", path.display());
            check(&fs::read(&path).unwrap());
            seeds += 1;
        }
        assert!(seeds >= 5, "{target}");
    }
}
