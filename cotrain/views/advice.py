"""What an encoder would add, where there is none; apart, because the encoders themselves import torch."""

ADVICE = {
    "text": "no pretrained encoder on this disk; one often gains most where labels are fewest: --encoder NAME with "
    "pip install 'cotrain[hf]', such as sentence-transformers/all-MiniLM-L6-v2",
    "audio": "no pretrained encoder on this disk; one often gains most where labels are fewest: --encoder NAME with "
    "pip install 'cotrain[hf]', such as facebook/wav2vec2-base",
    "image": "no pretrained encoder on this disk; one often gains most where labels are fewest: --encoder NAME with "
    "pip install 'cotrain[vision]', such as timm/resnet18.a1_in1k",
}
