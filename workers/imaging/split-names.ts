/** The three splits and their usual spellings. Pure. */
import { normaliseText } from './label-text.ts';

export const SPLITS = ['train', 'validation', 'test'] as const;
export type Split = (typeof SPLITS)[number];

const SPELLINGS: Readonly<Record<Split, readonly string[]>> = {
  train: ['train', 'training', 'trn'],
  validation: ['validation', 'val', 'valid', 'validate', 'dev', 'development'],
  test: ['test', 'testing', 'tst', 'holdout', 'heldout'],
};
const SPLIT_OF: ReadonlyMap<string, Split> = new Map(
  SPLITS.flatMap((split) => SPELLINGS[split].map((spelling) => [spelling, split] as const)),
);

/**
 * The split that a text names in any case, such as `Train`, `val_set` or `test images`; undefined for any other text.
 */
export function splitOf(written: string): Split | undefined {
  const key = normaliseText(written)
    .toLowerCase()
    .replace(/[\s_-]+/g, '');
  return SPLIT_OF.get(key) ?? SPLIT_OF.get(key.replace(/(data)?sets?$|data$|images?$|split$|patches$|tiles$/, ''));
}
