/** The findings of a campaign, for users and for docs/security.md. */
import { readFile, writeFile } from 'node:fs/promises';
import type { CampaignReport } from './campaign.ts';

const BEGIN = '<!-- attack: the tables below are written by `npm run attack -- --write` -->';
const END = '<!-- attack: end -->';

export function asText({ attacks, seed, quick, durationMs }: CampaignReport): string {
  const width = Math.max(...attacks.map(({ name }) => name.length));
  return [
    ...attacks.flatMap(({ name, about, tryCount, findings, remarks = [] }) => [
      `${findings.length === 0 ? 'held  ' : 'BROKEN'}  ${name.padEnd(width)}  ${tryCount} tries: ${about}`,
      ...findings.map((finding) => `          ${finding}`),
      ...(findings.length === 0
        ? []
        : [`          again: npm run attack --${quick ? ' --quick' : ''} --only ${name} --seed ${seed}`]),
      ...remarks.map((remark) => `          not tried: ${remark}`),
    ]),
    `Seed ${seed}, ${Math.round(durationMs / 1000)} s.`,
    '',
  ].join('\n');
}

/**
 * Puts the table between its two markers, in place of one of the same seed; the last table of another seed stays beside
 * it.
 * @throws Error if the page does not have both markers.
 */
export async function writeTable(page: string, report: CampaignReport): Promise<void> {
  const text = await readFile(page, 'utf8');
  const from = text.indexOf(BEGIN);
  const to = text.indexOf(END);
  if (from < 0 || to < from) throw new Error(`${page} has no markers for the table.`);
  const title = `### Seed ${report.seed}\n`;
  const others = text
    .slice(from + BEGIN.length, to)
    .split(/^(?=### Seed )/m)
    .filter((table) => table.startsWith('### Seed ') && !table.startsWith(title))
    .slice(-1);
  const tables = [...others.map((table) => table.trimEnd()), `${title}\n${asMarkdown(report).trimEnd()}`];
  await writeFile(page, `${text.slice(0, from)}${BEGIN}\n\n${tables.join('\n\n')}\n\n${text.slice(to)}`);
}

function asMarkdown({ attacks, seed, quick, startedAt, durationMs, loadAverage }: CampaignReport): string {
  const rows = attacks.map(({ name, about, tryCount, findings, remarks = [] }) => {
    const left = remarks.length === 0 ? '' : ` (not tried: ${remarks.join('; ')})`;
    return `| \`${name}\` | ${about}${left} | ${tryCount} | ${findings.length === 0 ? 'none' : findings.length} |`;
  });
  return [
    '| attack | what is tried | tries | findings |',
    '| --- | --- | ---: | ---: |',
    ...rows,
    '',
    `Made by \`npm run attack --${quick ? ' --quick' : ''} --seed ${seed}\` on ${startedAt.toISOString().slice(0, 10)} in ${Math.round(durationMs / 1000)} s, at a load average of ${loadAverage.toFixed(1)}.`,
    '',
  ].join('\n');
}
