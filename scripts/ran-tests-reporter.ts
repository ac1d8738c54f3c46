/**
 * A reporter for Node's test runner: one line of JSON for each test that ran and passed, for promises.ts. Suites and
 * skipped tests get no line, because they do not show that anything was tested.
 */
import type { TestEvent } from 'node:test/reporters';
import type { RanTest } from './promises.ts';

export default async function* reportRanTests(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  // The runner reports file after file, each in the order of its tests, so the names of open suites form a path.
  const open: string[] = [];
  for await (const { type, data } of events) {
    if (type === 'test:start') {
      open.length = data.nesting;
      open.push(data.name);
    }
    if (type !== 'test:pass' || data.details.type === 'suite' || isSet(data.skip) || isSet(data.todo)) continue;
    const ran: RanTest = { file: entryFileOf(data), names: [...open.slice(0, data.nesting), data.name] };
    yield `${JSON.stringify(ran)}\n`;
  }
}

/** The file that the runner was given, also for a test that a helper defines; Node's types lack the property. */
function entryFileOf(data: { readonly file?: string; readonly entryFile?: unknown }): string {
  return typeof data.entryFile === 'string' ? data.entryFile : (data.file ?? '');
}

function isSet(mark: string | boolean | undefined): boolean {
  return mark !== undefined && mark !== false;
}
