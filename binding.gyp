# Three things from one tree: the core library (no N-API in it), the addon around it, and the C++ test programs.
# Sources are listed by scripts/native-sources.js, so adding a file needs no change here.
{
  'target_defaults': {
    'cflags': ['-fPIC', '-fvisibility=hidden', '-pthread', '-Wall', '-Wextra', '-g'],
    'cflags_cc!': ['-std=gnu++17', '-std=gnu++1y', '-std=c++17'],
    'cflags_cc': ['-std=gnu++20', '-fno-exceptions', '-fno-rtti', '-fvisibility-inlines-hidden'],
    'include_dirs': ['native'],
    'ldflags': ['-pthread'],
  },
  'targets': [
    {
      'target_name': 'cellblock_core',
      'type': 'static_library',
      'standalone_static_library': 1,
      'sources': ['<!@(node scripts/native-sources.js core)'],
    },
    {
      'target_name': 'cellblock',
      'dependencies': ['cellblock_core'],
      'sources': ['<!@(node scripts/native-sources.js binding)'],
      'include_dirs': ['<!@(node -p "require(\'node-addon-api\').include_dir")'],
      'defines': [
        'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS',
        'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
        'NAPI_VERSION=9',
      ],
    },
    {
      'target_name': 'cellblock_tests',
      'type': 'none',
      'dependencies': ['cellblock_core'],
      'actions': [
        {
          'action_name': 'test_programs',
          'inputs': [
            'scripts/build-native.js',
            'scripts/native-sources.js',
            '<(PRODUCT_DIR)/cellblock_core.a',
            '<!@(node scripts/native-sources.js tests)',
          ],
          'outputs': ['<(PRODUCT_DIR)/tests/built'],
          'action': [
            'node', 'scripts/build-native.js', 'release',
            '--core', '<(PRODUCT_DIR)/cellblock_core.a',
            '--out', '<(PRODUCT_DIR)/tests',
            '--stamp', '<(PRODUCT_DIR)/tests/built',
          ],
        },
      ],
    },
  ],
}
