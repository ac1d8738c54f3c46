/** Matches each promise of the docs with the test that verifies it, and checks whether that test ran. */
import { readFileSync } from 'node:fs';
import path from 'node:path';

/** The pages on which every promise needs a test. */
export const PAGES_OF_PROMISES = ['docs/reliability.md', 'docs/security.md'] as const;

export interface PromiseTest {
  readonly page: string;
  /** Below the project's root. */
  readonly file: string;
  /** Part of the name of a test or of a suite around it. */
  readonly title: string;
}

/** A test that passed, written by ran-tests-reporter.ts, one a line. */
export interface RanTest {
  /** Absolute path of the test file. */
  readonly file: string;
  /** Names of the suites around it, then its own. */
  readonly names: readonly string[];
}

/** @returns every `` `test/file.test.ts`: title `` of a page's text. */
export function promisesOf(page: string, text: string): readonly PromiseTest[] {
  return [...text.matchAll(/`((?:test\/|\.)[\w./-]+)`: ([^|)\n]+)/g)].map(([, file = '', title = '']) => ({
    page,
    file,
    title: title.trim(),
  }));
}

export function promisesOfDocs(root: string): readonly PromiseTest[] {
  return PAGES_OF_PROMISES.flatMap((page) => promisesOf(page, readFileSync(path.join(root, page), 'utf8')));
}

/**
 * @param files the test files that the runner was given, below `root`: promises that other files verify are not
 * checked.
 * @returns the promises whose test was not registered, was skipped, or did not pass.
 */
export function promisesWithoutTest(
  root: string,
  promises: readonly PromiseTest[],
  files: readonly string[],
  ran: readonly RanTest[],
): readonly PromiseTest[] {
  const given = new Set(files.map((file) => path.resolve(root, file)));
  return promises.filter(({ file, title }) => {
    const absolute = path.resolve(root, file);
    return (
      given.has(absolute) && !ran.some((one) => one.file === absolute && one.names.some((name) => name.includes(title)))
    );
  });
}
