/**
 * The interface of an artifact store: immutable bytes named by their sha256, on a disk (local.ts) or in a bucket. Every
 * implementation keeps two promises: an artifact is either whole or absent, and equal bytes are stored once.
 */
import type { Readable } from 'node:stream';
import { DomainError } from '../../errors.ts';
import type { TakeBlock } from '../http-body.ts';
import type { UploadCheck } from './upload-check.ts';

export interface StoredBytes {
  readonly sha256: string;
  readonly byteSize: number;
}

/** A file that nobody writes to while it is stored. A store may read it twice, to learn its name before it is sent. */
export interface FileSource {
  readonly file: string;
}

/** Bytes to store. */
export type ByteSource = Uint8Array | FileSource | NodeJS.ReadableStream | AsyncIterable<Uint8Array>;

export function isFileSource(source: ByteSource): source is FileSource {
  return 'file' in source && !(Symbol.asyncIterator in source);
}

export interface StoredFacts {
  readonly byteSize: number;
  /** Storing the same bytes again counts as writing. */
  readonly writtenAt: Date;
}

/** A part of a file, in bytes. */
export interface ByteRange {
  readonly first: number;
  /** Inclusive. */
  readonly last: number;
}

/** A file or an object in the store; `sha256` is undefined if it is not an artifact. */
export interface StoredFile extends StoredFacts {
  /** The path of the file, or the URL of the object. */
  readonly path: string;
  readonly sha256: string | undefined;
}

/** Every function that takes a sha256 throws DomainError ARTIFACT_NOT_FOUND for any other text. */
export interface ArtifactStore {
  /** The folder, or `s3://bucket/prefix`. For messages. */
  readonly location: string;
  /**
   * Stores the bytes of a buffer, file or stream; equal bytes are stored once. Nothing is left behind when the source
   * fails.
   * @param named the sha256 that the bytes should have: other bytes are not stored, and the result says which they are.
   * A bucket stores a stream whose name is known without copying it once more.
   * @throws DomainError STORAGE_FULL before the reserve of a disk is touched.
   */
  put(source: ByteSource, named?: string): Promise<StoredBytes>;
  /** Undefined for an artifact that is absent, or in quarantine. */
  stat(sha256: string): Promise<StoredFacts | undefined>;
  /**
   * The bytes of the whole file, or of a range within it, for a reader that verifies them itself and reads or destroys
   * the stream.
   * @throws DomainError ARTIFACT_NOT_FOUND, or ARTIFACT_CORRUPT for a file in quarantine, before the first byte.
   */
  open(sha256: string, range?: ByteRange): Promise<Readable>;
  /**
   * Passes the bytes of the whole file on in order, in memory that is used again: for a reader that verifies them
   * itself, and much cheaper than `open` for a large file from a bucket.
   * @throws as `open`, and what `take` throws.
   */
  scan(sha256: string, take: TakeBlock): Promise<void>;
  /** The whole content, verified against its digest. Throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT. */
  read(sha256: string): Promise<Buffer>;
  /** Every stored file, in no order; artifacts that arrive meanwhile may be included. */
  list(): AsyncGenerator<StoredFile>;
  /** Deletes the artifact unless it was written at or after `unlessSince`. @returns whether it was deleted. */
  delete(sha256: string, unlessSince: Date): Promise<boolean>;
  /**
   * Makes an address from which anyone who has it can read the artifact for some minutes; undefined for a store whose
   * bytes only the server can send.
   */
  readonly link: ((sha256: string, options: LinkOptions) => Promise<string>) | undefined;
  /** Undefined for a store whose bytes only the server can take. */
  readonly direct: DirectUploads | undefined;
  readonly upkeep: StoreUpkeep;
}

/**
 * Uploads whose bytes go from whoever has them straight to the store, in parts, by addresses that are signed one at a
 * time. Nothing is an artifact before the server has read the bytes back and found their sha256 right.
 */
export interface DirectUploads {
  /**
   * @param writer whose unfinished files the parts are: `removeUnfinished` removes them.
   * @throws DomainError FILE_TOO_LARGE for more parts than the store takes.
   */
  begin(writer: string, byteSize: number): Promise<DirectUpload>;
  /** An address that takes this part for some minutes. @throws DomainError UPLOAD_NOT_FOUND for what is not an id. */
  sign(writer: string, uploadId: string, part: PartToSign): Promise<SignedPart>;
  /**
   * Joins the parts and stores them as an artifact if they have this sha256. May be repeated while its answer is
   * awaited, and after it was lost.
   * @param etags of all parts in their order, as the store answered with them.
   * @returns what the bytes are; other bytes than named are not stored.
   * @throws DomainError UPLOAD_INCOMPLETE for parts that are missing or have other tags, UPLOAD_NOT_FOUND for an upload
   * that was removed.
   */
  complete(writer: string, uploadId: string, etags: readonly string[], named: StoredBytes): Promise<StoredBytes>;
}

export interface DirectUpload {
  readonly uploadId: string;
  /** The size of every part but the last. */
  readonly partBytes: number;
  /** How the store checks a part when it arrives. */
  readonly check: UploadCheck;
}

export interface PartToSign {
  /** From 1. */
  readonly partNumber: number;
  /** `checksumOf` its bytes; empty for a store that checks none. */
  readonly checksum: string;
}

/** A PUT of the part's bytes to this address, with these headers. */
export interface SignedPart {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** How the answer to a link describes the bytes. */
export interface LinkOptions {
  readonly mediaType: string;
  /** The value of Content-Disposition. */
  readonly disposition: string | undefined;
}

/** What the program itself needs to look after a store: identity, damage, and what killed processes left. */
export interface StoreUpkeep {
  /**
   * Called at the start of a program that stores artifacts.
   * @throws DomainError STORE_* that says what to do if artifacts cannot be stored here.
   */
  requireUsable(): Promise<void>;
  /** The identity that ties the store to its registry; undefined for a store without one. */
  readIdentity(): Promise<string | undefined>;
  /** The caller reads the identity again: another server may have written one at the same time. */
  writeIdentity(storeId: string): Promise<void>;
  /**
   * Marks a bucket that a restore fills, or removes the mark. Does nothing on a disk, where the data directory is
   * marked.
   */
  markRestoring(isRestoring: boolean): Promise<void>;
  /** True for a bucket in which a restore was begun and has not ended. */
  isRestoring(): Promise<boolean>;
  /** Reads the artifact again and, if its digest is still wrong, moves it to quarantine. @returns whether it moved. */
  quarantine(sha256: string): Promise<boolean>;
  /** The quarantined files, and their total size. */
  quarantined(): Promise<{ readonly fileCount: number; readonly byteSize: number }>;
  /** The names of writers that may have left unfinished files. */
  unfinishedWriters(): Promise<string[]>;
  /** Removes the unfinished files of a writer whose process has ended. */
  removeUnfinished(writer: string): Promise<void>;
  /** Removes old unfinished files of killed processes without a writer name. Safe during concurrent writes. */
  removeAbandoned(): Promise<void>;
}

const SHA256_PATTERN = /^[0-9a-f]{64}$/;

export function isSha256(text: string): boolean {
  return SHA256_PATTERN.test(text);
}

/** The name becomes part of a path or key, so only a digest is accepted. @throws DomainError ARTIFACT_NOT_FOUND. */
export function requireSha256(text: string): string {
  if (isSha256(text)) return text;
  throw new DomainError({
    code: 'ARTIFACT_NOT_FOUND',
    message: 'The text is not a sha256 in lower-case hex.',
    field: 'sha256',
    hint: 'Use a sha256 from an answer of the API.',
  });
}

/** Whether bytes shall be stored. @param named the sha256 that they should have. */
export function isWanted({ sha256 }: StoredBytes, named: string | undefined): boolean {
  return named === undefined || sha256 === named;
}

export function artifactMissing(sha256: string, cause?: unknown): DomainError {
  return new DomainError({
    code: 'ARTIFACT_NOT_FOUND',
    message: `Artifact ${sha256} is not in the store.`,
    hint: 'Restore it from a backup.',
    cause,
  });
}

export function artifactCorrupt(sha256: string, cause?: unknown): DomainError {
  return new DomainError({
    code: 'ARTIFACT_CORRUPT',
    message: `Artifact ${sha256} has changed in the store.`,
    hint: 'Restore it from a backup.',
    cause,
  });
}
