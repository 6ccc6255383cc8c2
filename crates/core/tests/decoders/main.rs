//! What must hold for every decoder of bytes from clients, disks and volume options. What is checked is shared with the
//! fuzz targets.

#[path = "../../../../fuzz/src/lib.rs"]
mod checks;
mod corpus;
mod properties;
