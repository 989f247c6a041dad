"""Vicuna's conversation (v1) as LLaVA-1.5 writes it, with marks around what is learned: " answer</s>" of every turn."""

# haotian-liu/LLaVA, conversation.py: conv_vicuna_v1 and SeparatorStyle.TWO.
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IMAGE = "<image>"

VICUNA_V1 = (
    "{%- macro text_of(content) -%}"
    "{%- if content is string -%}{{ content }}"
    "{%- else -%}{%- for part in content -%}"
    f"{{%- if part['type'] == 'image' -%}}{{{{ '{IMAGE}\\n' }}}}{{%- else -%}}{{{{ part['text'] }}}}{{%- endif -%}}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
    "{{- bos_token -}}"
    "{%- if messages[0]['role'] == 'system' -%}"
    "{{- text_of(messages[0]['content']) -}}{%- set turns = messages[1:] -%}"
    "{%- else -%}"
    f'{{{{- "{SYSTEM}" -}}}}{{%- set turns = messages -%}}'
    "{%- endif -%}"
    "{{- ' ' -}}"
    "{%- for message in turns -%}"
    "{%- set said = text_of(message['content']) -%}"
    "{%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}"
    "{{- raise_exception('Roles must alternate: user, assistant, user, …') -}}"
    "{%- elif message['role'] == 'user' -%}{{- 'USER: ' + said -}}"
    "{%- else -%}{{- ' ASSISTANT:' -}}{%- generation -%}{{- ' ' + said + eos_token -}}{%- endgeneration -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- ' ASSISTANT:' -}}{%- endif -%}"
)
