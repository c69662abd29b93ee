"""The FAPrompt kit: fine-grained abnormality prompts for zero-shot anomaly detection.

What a notebook or a script needs is imported from here; each name is loaded at its first use, so that
`import fap_lib` itself takes no time; it settles the number of threads (`fap_lib.core.threads`), so import it
before torch:

    from fap_lib import FAPrompt, load_backbone, load_profile

The method is the modules beside this file, `cap`, `dap`, `losses`, `maps`, `model`, `training` and
`checkpoints`; everything else lives in rooms (`ARCHITECTURE.md`).
"""

import lazy_loader

from fap_lib.core import threads

threads.settle()  # before anything of the kit imports torch

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
