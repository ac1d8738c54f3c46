/** The job that is handed to Slurm, and how its commands are run. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { NO_REQUIREMENTS, type RunRequirements } from '../../src/protocol/requirements.ts';
import { createSlurm } from '../../workers/launchers/slurm/index.ts';
import { faultsOfTemplate, sbatchArguments, scriptOf } from '../../workers/launchers/slurm/script.ts';
import { createShell, quoted } from '../../workers/launchers/slurm/shell.ts';
import { temporaryFolder } from '../support/shards.ts';

const job = { name: 'paraffin-r-1', runId: 'r', requirements: NO_REQUIREMENTS, secondsLeft: null };
const template = {
  text: '#SBATCH --partition=gpu\n#SBATCH --gres=gpu:1\nmodule load node\n',
  paraffin: ['/opt/paraffin/bin/paraffin.mjs'],
  settingsFile: "/home/it's me/worker.env",
  logFolder: '/home/me/jobs',
  warnSeconds: 120,
};

describe('the batch script', () => {
  test('is a valid shell script that becomes the worker, without a secret in it', () => {
    const script = scriptOf(job, template);
    execFileSync('bash', ['-n'], { input: script });
    assert.match(script, /^#!\/bin\/bash\n#SBATCH --partition=gpu\n/);
    assert.match(
      script,
      /\nexec \/opt\/paraffin\/bin\/paraffin\.mjs worker --once --run r --settings '\/home\/it'\\''s me\/worker\.env'\n$/,
    );
    assert.ok(script.includes('export PARAFFIN_WORKER_NAME=paraffin-r-1@"$(hostname)"'));
  });

  test('keeps the shebang of a site', () => {
    assert.match(scriptOf(job, { ...template, text: '#!/bin/zsh\n#SBATCH -p gpu' }), /^#!\/bin\/zsh\n#SBATCH -p gpu\n/);
  });

  test('has options that outrank the template: no requeue, a warning for the worker, a log that is appended to', () => {
    const words = sbatchArguments(job, template);
    for (const word of [
      '--parsable',
      '--no-requeue',
      '--signal=B:USR1@120',
      '--open-mode=append',
      '--job-name=paraffin-r-1',
    ])
      assert.ok(words.includes(word), word);
  });
});

describe('what the run requires', () => {
  const argumentsOf = (
    text: string,
    requirements: Partial<RunRequirements>,
    secondsLeft: number | null = null,
  ): readonly string[] =>
    sbatchArguments(
      { ...job, requirements: { ...NO_REQUIREMENTS, ...requirements }, secondsLeft },
      { ...template, text },
    ).filter((word) => /^--(mem|gres|time)=/.test(word));

  test('is asked of Slurm in place of what the template says', () => {
    assert.deepEqual(argumentsOf('', {}), []);
    assert.deepEqual(argumentsOf('#SBATCH --mem=4G\n', { device: 'GPU', memoryMiB: 32_768 }), [
      '--mem=32768M',
      '--gres=gpu:1',
    ]);
  });

  test('leaves GPUs, and memory for each processor, to a template that names them', () => {
    for (const line of ['--gres=gpu:a100:1', '--gpus 1', '-G 1', '--gpus-per-node=1'])
      assert.deepEqual(argumentsOf(`#SBATCH ${line}\n`, { device: 'GPU' }), [], line);
    assert.deepEqual(argumentsOf('#SBATCH --mem-per-cpu=4G\n', { memoryMiB: 32_768 }), []);
  });

  test('is no more time than the run may take, with that of its start and its end, and than the site grants', () => {
    // 600 s of work, 120 s of warning, 180 s around it.
    assert.deepEqual(argumentsOf('', {}, 600), ['--time=15']);
    for (const [line, isLonger] of [
      ['--time=14', false],
      ['--time=14:59', false],
      ['-t 0:14:59', false],
      ['-t0:16:00', true],
      ['--time 2:00:00', true],
      ['--time=1-0', true],
      ['--time=0-0:10', false],
      ['--time=1-00:00:00', true],
      ['--time=UNLIMITED', true],
    ] as const)
      assert.deepEqual(argumentsOf(`#SBATCH ${line}\n`, {}, 600), isLonger ? ['--time=15'] : [], line);
  });
});

describe('a template', () => {
  test('that is fine has no fault', () => {
    assert.deepEqual(faultsOfTemplate(template.text), []);
    assert.deepEqual(faultsOfTemplate(''), []);
  });

  test('may not set what the launcher sets, nor a directive that sbatch would not read', () => {
    const faults = faultsOfTemplate('#SBATCH --requeue\n#SBATCH -J mine\nmodule load x\n#SBATCH --mem=4G\n#SBATCH\n');
    assert.equal(faults.length, 4);
    assert.match(faults[0] ?? '', /^line 1 .* sets an option that the launcher sets itself/);
    assert.match(faults[2] ?? '', /^line 4 .* follows a command/);
  });
});

/** Commands of these names that behave as their shell scripts say; `calls` is what was called. */
async function commands(context: TestContext, scripts: Readonly<Record<string, string>>) {
  const folder = await temporaryFolder(context);
  for (const [name, script] of Object.entries(scripts)) {
    const file = path.join(folder, name);
    await writeFile(file, `#!/bin/bash\nprintf '%s\\n' "$(basename "$0") $*" >> ${folder}/calls\n${script}\n`);
    await chmod(file, 0o755);
  }
  const env = { PATH: `${folder}:/usr/bin:/bin`, SBATCH_PARTITION: 'wrong', SLURM_CONF: '/etc/x', SQUEUE_FORMAT: '%i' };
  const calls = async (): Promise<string[]> => (await readFile(path.join(folder, 'calls'), 'utf8')).trim().split('\n');
  return { env, calls };
}

const OUTAGE = 'echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1';

describe('the commands of Slurm', () => {
  test('see neither the options of the caller nor her secrets, which sbatch would hand to the job', async (context) => {
    const { env } = await commands(context, { sbatch: 'env' });
    const secrets = { PARAFFIN_API_KEY: 'hush', PARAFFIN_DATABASE_URL: 'hush', AWS_SECRET_ACCESS_KEY: 'hush' };
    const { stdout } = await createShell({}, { ...env, ...secrets }).run(['sbatch']);
    assert.match(stdout, /^SLURM_CONF=\/etc\/x$/m);
    assert.doesNotMatch(stdout, /hush|SBATCH_PARTITION|SQUEUE_FORMAT/);
  });

  test('squeue is asked first, and sacct only for what it does not know', async (context) => {
    const { env, calls } = await commands(context, {
      squeue: `[[ "$*" == *PENDING* ]] && echo "4|gpu" && exit; echo "4|a|PENDING|Priority|"`,
      sacct: 'echo "2|b|NODE_FAIL|0:0|n2"',
    });
    const look = await createSlurm({ shell: createShell({}, env), template }).look(['a', 'b', 'c']);
    assert.ok(look.kind === 'ANSWERED');
    assert.deepEqual([...look.jobs.keys()].toSorted(), ['a', 'b']);
    assert.equal(look.jobs.get('a')?.[0]?.position, 1);
    assert.ok((await calls()).some((call) => call.startsWith('sacct') && call.includes('--name=b,c ')));
  });

  test('a controller, or accounts, that do not answer say nothing of any job', async (context) => {
    const down = await commands(context, { squeue: OUTAGE });
    const look = await createSlurm({ shell: createShell({}, down.env), template }).look(['a']);
    assert.deepEqual(look, {
      kind: 'UNANSWERED',
      reason: 'squeue: Unable to contact slurm controller (connect failure)',
    });
    const lost = await commands(context, {
      squeue: 'true',
      sacct: 'echo "sacct: error: Connection refused" >&2; exit 1',
    });
    assert.equal((await createSlurm({ shell: createShell({}, lost.env), template }).look(['a'])).kind, 'UNANSWERED');
    const none = await commands(context, {
      squeue: 'true',
      sacct: 'echo "Slurm accounting storage is disabled" >&2; exit 1',
    });
    const known = await createSlurm({ shell: createShell({}, none.env), template }).look(['a']);
    assert.deepEqual(known, { kind: 'ANSWERED', jobs: new Map() });
  });

  test('a submission is taken, refused, or lost', async (context) => {
    const submitted = async (script: string): Promise<string> => {
      const { env } = await commands(context, { sbatch: script });
      return (await createSlurm({ shell: createShell({}, env), template }).submit(job)).kind;
    };
    assert.equal(await submitted('cat > /dev/null; echo 17'), 'SUBMITTED');
    assert.equal(await submitted('echo "sbatch: error: invalid partition specified: gpu" >&2; exit 1'), 'REFUSED');
    assert.equal(await submitted(OUTAGE), 'LOST');
    assert.equal(await submitted('kill -9 $$'), 'LOST');
    assert.equal(await submitted('true'), 'LOST');
  });

  test('a template that Slurm refuses is told at the start, in its own words', async (context) => {
    const { env, calls } = await commands(context, {
      sbatch: 'echo "sbatch: error: invalid partition specified: nothere" >&2; exit 1',
    });
    const slurm = createSlurm({ shell: createShell({}, env), template });
    assert.deepEqual(await slurm.check(), [
      'sbatch --test-only refuses the template: invalid partition specified: nothere.',
    ]);
    assert.match((await calls()).join('\n'), /--test-only/);
    const faulty = createSlurm({ shell: createShell({}, env), template: { ...template, text: '#SBATCH -J x' } });
    assert.match((await faulty.check()).join(), /line 1 of the template/);
  });

  test('a Slurm that is not installed, or does not answer, is not blamed on the template', async (context) => {
    const { env } = await commands(context, {});
    const slurm = createSlurm({ shell: createShell({}, { ...env, PATH: '/nowhere' }), template });
    assert.deepEqual(await slurm.check(), [
      'Slurm does not answer sbatch --test-only: the command sbatch was not found on this machine.',
    ]);
    assert.equal((await slurm.submit(job)).kind, 'LOST');
    const down = await commands(context, { sbatch: OUTAGE });
    assert.deepEqual(await createSlurm({ shell: createShell({}, down.env), template }).check(), [
      'Slurm does not answer sbatch --test-only: Unable to contact slurm controller (connect failure).',
    ]);
  });

  test('a command that hangs is ended, and says so', async (context) => {
    const { env } = await commands(context, { squeue: 'exec sleep 60' });
    const answer = await createShell({}, env).run(['squeue'], { timeoutMs: 200 });
    assert.deepEqual(answer, { stdout: '', stderr: 'squeue did not answer within 0.2 s', exitCode: null });
  });

  test('a job is cancelled by its id and its name, because ids are used again', async (context) => {
    const { env, calls } = await commands(context, { scancel: 'true' });
    await createSlurm({ shell: createShell({}, env), template }).cancel('paraffin-r-1', '17');
    assert.deepEqual(await calls(), ['scancel --name=paraffin-r-1 17']);
  });
});

describe('behind ssh', () => {
  test('a connection that a person opened is used, and nobody is asked for a password', async (context) => {
    const { env, calls } = await commands(context, { ssh: 'eval "${@: -1}"', squeue: 'printf "%s|" "$@"' });
    const shell = createShell({ sshHost: 'me@login', sshControlPath: '~/.ssh/cm-%C' }, env);
    const { stdout } = await shell.run(['squeue', '--format=%i|%j', "it's", '$HOME']);
    assert.equal(stdout, "--format=%i|%j|it's|$HOME|");
    assert.match(
      (await calls())[0] ?? '',
      /^ssh -o BatchMode=yes -o ControlMaster=no .*ControlPath=~\/\.ssh\/cm-%C -- me@login /,
    );
  });

  test('a login node that is not reached says nothing of any job', async (context) => {
    const { env } = await commands(context, { ssh: 'echo "me@login: Permission denied (publickey)." >&2; exit 255' });
    const slurm = createSlurm({ shell: createShell({ sshHost: 'me@login' }, env), template });
    assert.equal((await slurm.look(['a'])).kind, 'UNANSWERED');
    assert.equal((await slurm.submit(job)).kind, 'LOST');
  });

  test('words reach the other side as they are', () => {
    for (const word of ["it's", '$(rm -rf /)', 'a b', '', '~/x', '"']) {
      assert.equal(execFileSync('sh', ['-c', `printf %s ${quoted(word)}`], { encoding: 'utf8' }), word);
    }
  });
});
