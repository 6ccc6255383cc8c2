/* GlusterFS's library for programs, from libglusterfs-dev. */
#include <glusterfs/api/glfs.h>
#include <glusterfs/api/glfs-handles.h>
