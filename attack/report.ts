/** The findings of a campaign, for users and for docs/security.md. */
import { writeMarked } from '../test/support/marked-page.ts';
import type { CampaignReport } from './campaign.ts';

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
  const title = `### Seed ${report.seed}\n`;
  await writeMarked(page, 'attack', (old) => {
    const others = old
      .split(/^(?=### Seed )/m)
      .filter((table) => table.startsWith('### Seed ') && !table.startsWith(title))
      .slice(-1);
    return [...others.map((table) => table.trimEnd()), `${title}\n${asMarkdown(report).trimEnd()}`].join('\n\n');
  });
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
