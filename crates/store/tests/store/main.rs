//! The store on real file systems, in bricks that are laid out as storage/posix does it. Needs root.

mod aside;
mod carrying;
mod check;
mod common;
mod damage;
mod directories;
mod durability;
mod following;
mod full;
mod graves;
mod guard;
mod healing;
mod lifecycle;
mod over;
mod places;
mod real;
mod refusals;
mod restoring;
mod returning;
mod tenancy;
mod xattrs;
