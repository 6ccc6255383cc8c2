/* The GlusterFS headers that the translator binds. They come from libglusterfs-dev; build.rs adds the macros of the
 * config.h that is not shipped with them. */
#include <glusterfs/xlator.h>
#include <glusterfs/call-stub.h>
#include <glusterfs/defaults.h>
#include <glusterfs/dict.h>
#include <glusterfs/gf-dirent.h>
#include <glusterfs/hashfn.h>
#include <glusterfs/logging.h>
#include <glusterfs/statedump.h>
#include <glusterfs/syncop.h>
