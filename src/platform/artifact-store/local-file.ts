/** What a reader that seeks in an artifact gets. */

/** A verified file, which stays as it is until it is released. */
export interface LocalFile extends AsyncDisposable {
  readonly path: string;
  /** Safe to call twice. */
  release(): Promise<void>;
}

export interface LocalFiles {
  /**
   * The artifact as a local file whose digest was verified. Calls for the same artifact share the work, so a reader
   * that needs a file later calls early, and awaits late: the next files of a remote store then arrive while it works.
   * @throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT; for a remote store also the errors of its `open`, and
   * STORAGE_FULL if the files that are held leave no room in the cache.
   */
  hold(sha256: string): Promise<LocalFile>;
  /** Releases what is still held. A process that ends without it is noticed by the next one. */
  close(): Promise<void>;
}
