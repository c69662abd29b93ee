# From nothing to a notebook, on a machine that is not yours: Colab, Kaggle, or any Linux with a GPU.
# The cell of examples/run_elsewhere.ipynb is these lines; docs/run_elsewhere.md says what they need.
set -euo pipefail
kit=${KIT:-https://github.com/faprompt-kit/faprompt-kit}
tag=${TAG:-v0.2.0}
prompts=${PROMPTS:-train_on_mvtecad.pth} # the authors' file, and where they share it
drive=1XDXtx-17JCIT-EAIpS_R_C2T2S03bzdD

git clone --quiet --depth 1 --branch "$tag" "$kit" faprompt-kit
cd faprompt-kit
python3 -c 'import ensurepip' || apt-get install --yes --quiet python3-venv
make setup TORCH_BACKEND="${TORCH_BACKEND:-auto}"

mkdir -p models data/downloads/kvasir runs/elsewhere
if [ -n "${FILES:-}" ]; then # a folder with both downloads, where there is no network
  cp "$FILES/$prompts" models/
  cp "$FILES/kvasir-seg.zip" data/downloads/kvasir/
else
  .venv/bin/python -m uv pip install --quiet --python .venv/bin/python --editable '.[gdown]'
  .venv/bin/gdown "$drive" --output "models/$prompts"
fi
.venv/bin/fap checkpoint "models/$prompts" # ends here if this is not the published file
.venv/bin/fap data prepare kvasir          # downloads 46 MB

.venv/bin/papermill notebooks/00_start_here.ipynb runs/elsewhere/00_start_here.ipynb --no-progress-bar \
  -p data kvasir -p profile "${PROFILE:-paper}" -p prompts "models/$prompts"
.venv/bin/jupyter nbconvert --to html --log-level WARN runs/elsewhere/00_start_here.ipynb
