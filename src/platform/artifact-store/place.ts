/** Where an artifact store is, as people write it. Pure. */
import path from 'node:path';
import type { S3Place } from './s3-client.ts';

/** A folder, or a bucket. */
export type ArtifactPlace = string | S3Place;

/** How buckets are reached. */
export interface S3Access {
  /** Undefined for Amazon. */
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  readonly pathStyle: boolean;
}

const BUCKET_URL = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([^?#]*))?$/;

export function isBucketUrl(text: string): boolean {
  return BUCKET_URL.test(text);
}

/** @returns undefined for a text that begins with `s3:` and is not `s3://bucket` or `s3://bucket/prefix`. */
export function parseArtifactPlace(text: string, access: S3Access): ArtifactPlace | undefined {
  if (!/^s3:/i.test(text)) return path.resolve(text);
  const [, bucket, folders = ''] = BUCKET_URL.exec(text) ?? [];
  if (bucket === undefined) return undefined;
  const prefix = folders
    .split('/')
    .filter((folder) => folder !== '')
    .join('/');
  return { bucket, prefix, ...access };
}
