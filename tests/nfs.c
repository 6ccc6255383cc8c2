/*
 * An NFSv4 client that needs no kernel: nfs SERVER EXPORT, then commands on stdin, a line each:
 *   ls DIR | cat FILE | rm FILE | rmdir DIR | mkdir DIR | write FILE TEXT
 * Prints what `ls` and `cat` found, and for each command a line "COMMAND PATH: 0", or the errno.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <nfsc/libnfs.h>

static int list(struct nfs_context *nfs, const char *path)
{
    struct nfsdir *dir;
    struct nfsdirent *entry;
    int failed = nfs_opendir(nfs, path, &dir);
    if (failed)
        return failed;
    while ((entry = nfs_readdir(nfs, dir)))
        if (strcmp(entry->name, ".") && strcmp(entry->name, ".."))
            printf("%s\n", entry->name);
    nfs_closedir(nfs, dir);
    return 0;
}

static int show(struct nfs_context *nfs, const char *path)
{
    struct nfsfh *file;
    char text[4096];
    int size, failed = nfs_open(nfs, path, O_RDONLY, &file);
    if (failed)
        return failed;
    while ((size = nfs_read(nfs, file, sizeof text, text)) > 0)
        fwrite(text, 1, size, stdout);
    nfs_close(nfs, file);
    return size;
}

static int fill(struct nfs_context *nfs, const char *path, char *text)
{
    struct nfsfh *file;
    int done, failed = nfs_open2(nfs, path, O_CREAT | O_TRUNC | O_WRONLY, 0644, &file);
    if (failed)
        return failed;
    done = nfs_write(nfs, file, strlen(text), text);
    nfs_close(nfs, file);
    return done < 0 ? done : 0;
}

int main(int argc, char **argv)
{
    char line[1024], command[16], path[512], text[256];
    struct nfs_context *nfs = nfs_init_context();
    if (argc != 3 || !nfs || nfs_set_version(nfs, 4) || nfs_mount(nfs, argv[1], argv[2])) {
        fprintf(stderr, "%s\n", nfs ? nfs_get_error(nfs) : "no memory");
        return 1;
    }
    while (fgets(line, sizeof line, stdin)) {
        int failed = -22;
        *text = 0;
        if (sscanf(line, "%15s %511s %255s", command, path, text) < 2)
            continue;
        if (!strcmp(command, "ls"))
            failed = list(nfs, path);
        else if (!strcmp(command, "cat"))
            failed = show(nfs, path);
        else if (!strcmp(command, "rm"))
            failed = nfs_unlink(nfs, path);
        else if (!strcmp(command, "rmdir"))
            failed = nfs_rmdir(nfs, path);
        else if (!strcmp(command, "mkdir"))
            failed = nfs_mkdir(nfs, path);
        else if (!strcmp(command, "write"))
            failed = fill(nfs, path, text);
        printf("%s %s: %d\n", command, path, -failed);
        fflush(stdout);
    }
    return 0;
}
