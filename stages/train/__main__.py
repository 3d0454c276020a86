"""`python -m stages.train CONFIG`: the train stages of a pipeline, and nothing else of it.

With `--benchmark-data`: no training, but the images a second of its loaders.
"""

import sys

from pipeline.cli import main_of_stage

if "--benchmark-data" in sys.argv:
    from tools.bench_data import main

    main()
else:
    main_of_stage("train")
