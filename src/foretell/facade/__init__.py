"""The stages joined: what the command line and Python users call."""

from foretell.facade.agents import collect_imagined as collect_imagined
from foretell.facade.agents import collect_sac as collect_sac
from foretell.facade.agents import train_sac as train_sac
from foretell.facade.evaluation import evaluate as evaluate
from foretell.facade.evaluation import validation_level as validation_level
from foretell.facade.recording import collect_policy as collect_policy
from foretell.facade.subjects import load_policy as load_policy
from foretell.facade.training import train as train
from foretell.facade.training import train_iql as train_iql
