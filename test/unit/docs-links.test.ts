/**
 * References in the documentation: every link leads to an existing file and heading, and every recipe names existing
 * code.
 */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const ROOT = path.resolve(import.meta.dirname, '../..');
const PAGES = ['README.md', ...globSync('docs/**/*.md', { cwd: ROOT })];
/** Links and pictures of Markdown, and pictures of HTML, that lead to a file of the project. */
const LINK = /\]\((?!https?:)([^)\s]+)\)|(?:src|srcset)="(?!https?:)([^"\s]+)"/g;

/** Anchors as GitHub makes them from headings: lower case, no punctuation, hyphens for spaces. */
function anchorsOf(markdown: string): Set<string> {
  const headings = [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => heading);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s-]/gu, '')
        .trim()
        .replaceAll(' ', '-'),
    ),
  );
}

function prose(markdown: string): string {
  return markdown.replaceAll(/```[\s\S]*?```/g, '').replaceAll(/`[^`\n]*`/g, '');
}

test('there are pages to check', () => assert.ok(PAGES.length >= 6));

for (const page of PAGES) {
  test(`${page} points at what is there`, () => {
    const text = readFileSync(path.join(ROOT, page), 'utf8');
    for (const [, markdownTarget, htmlTarget] of prose(text).matchAll(LINK)) {
      const [file = '', anchor] = (markdownTarget ?? htmlTarget ?? '').split('#');
      const target = file === '' ? path.join(ROOT, page) : path.resolve(ROOT, path.dirname(page), file);
      assert.ok(existsSync(target), `${page} links to ${file}`);
      if (anchor !== undefined && target.endsWith('.md'))
        assert.ok(anchorsOf(readFileSync(target, 'utf8')).has(anchor), `${page} links to ${file}#${anchor}`);
    }
  });
}

/** A file or folder of the project, as docs/extending.md writes it. */
const isPath = (token: string): boolean => token.includes('/') || /^[\w-]+\.prisma$|^\.dependency/.test(token);
/** Names that are not identifiers of the files mentioned with them: commands, file name patterns, keywords. */
const NOT_IDENTIFIERS = new Set(['Math.random', 'graphql.ts', '*.store.ts', '<subject>.graphql.ts']);

const recipes = readFileSync(path.join(ROOT, 'docs/extending.md'), 'utf8').split(/^## /m).slice(1);

test('there are recipes to check', () => assert.ok(recipes.length >= 8));

for (const recipe of recipes) {
  const [title = ''] = recipe.split('\n');
  test(`the recipe "${title}" names files that exist and identifiers that stand in one of them`, () => {
    const tokens = [...recipe.matchAll(/`([^`\n]+)`/g)].map(([, token = '']) => token);
    const paths = tokens.filter(isPath);
    assert.ok(paths.length > 0);
    for (const file of paths) assert.ok(existsSync(path.join(ROOT, file)), `${file} does not exist`);
    const texts = paths
      .filter((file) => !file.endsWith('/'))
      .map((file) => readFileSync(path.join(ROOT, file), 'utf8'));
    for (const token of tokens.filter(
      (each) => !isPath(each) && !each.startsWith('npm ') && !NOT_IDENTIFIERS.has(each),
    ))
      assert.ok(
        texts.some((text) => text.includes(token)),
        `none of the files that "${title}" names contains ${token}`,
      );
  });
}
