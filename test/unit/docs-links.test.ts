/** Pages that point at each other: every file and every heading that README and docs/ link to is there. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const ROOT = path.resolve(import.meta.dirname, '../..');
const PAGES = ['README.md', ...globSync('docs/**/*.md', { cwd: ROOT })];
/** Links and pictures of Markdown, and pictures of HTML, that lead to a file of ours. */
const LINK = /\]\((?!https?:)([^)\s]+)\)|(?:src|srcset)="(?!https?:)([^"\s]+)"/g;

/** As GitHub makes them from a heading: lower case, no punctuation, hyphens for spaces. */
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

test('there are pages to look at', () => assert.ok(PAGES.length >= 6));

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
