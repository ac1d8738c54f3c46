/** The options of V8 for the process of an import. */

/**
 * V8 counts the bytes of files on their way to a shard with the heap, which is small, and by default searches it for
 * garbage after every ten files of 400 KB; if it may grow fourfold in between, after every 150. A semi-space of 4 MB in
 * place of 16 keeps texts that a long listing makes and drops from filling memory.
 */
export const IMPORT_HEAP_FLAGS: readonly string[] = ['--heap-growing-percent=300', '--max-semi-space-size=4'];
