/** The house's rules that TypeScript itself does not hold. Walls between folders are in .dependency-cruiser.cjs. */
import tseslint from 'typescript-eslint';

export default tseslint.config(
  {
    ignores: [
      'node_modules/**',
      'src/generated/**',
      'web/dist/**',
      'web/src/generated/**',
      '.paraffin/**',
      '**/*.cjs',
      '**/*.mjs',
      'bench/.peer/**',
    ],
  },
  ...tseslint.configs.recommended,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', package: 'node:test', name: ['test', 'describe', 'it', 'before', 'after'] },
          ],
        },
      ],
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      // Prettier lays code out; a comment longer than a reader's eye is left to this rule.
      'max-len': [
        'error',
        {
          code: 120,
          ignoreStrings: true,
          ignoreTemplateLiterals: true,
          ignoreRegExpLiterals: true,
          ignoreUrls: true,
          ignorePattern: '^\\s*(import|export) ',
        },
      ],
      '@typescript-eslint/consistent-type-assertions': ['error', { assertionStyle: 'never' }],
      'no-restricted-syntax': [
        'error',
        {
          selector: "MemberExpression[object.name='process'][property.name='env']",
          message: 'src/env.ts is the one reader of process.env.',
        },
      ],
    },
  },
  // The environment is read in one file; the engine install hands it whole to pip and g++.
  {
    files: [
      'src/env.ts',
      'src/platform/engine/**',
      'scripts/**',
      'bench/**',
      'compat/**',
      'experiments/**',
      'load/**',
      'test/**',
      'src/cli/**',
      'prisma.config.ts',
    ],
    rules: { 'no-restricted-syntax': 'off' },
  },
  {
    files: ['workers/engine/**'],
    rules: {
      'no-restricted-properties': [
        'error',
        {
          object: 'Math',
          property: 'random',
          message: 'The engine draws from workers/engine/rng.ts, so that a run can be repeated.',
        },
        { object: 'Date', property: 'now', message: 'The engine does not know the time; its caller measures.' },
      ],
    },
  },
);
