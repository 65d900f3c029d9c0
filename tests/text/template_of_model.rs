//! The template of a model: its file's, or a default.

use rfgraph::Remedy;
use rfgraph::gguf::Gguf;
use rfgraph::text::{ChatTemplate, Message, TemplateError, Tokenizer, VocabData};

use crate::templates::fixtures;

fn demo_vocabulary() -> VocabData {
    VocabData::from_metadata(Gguf::open(&fixtures().join("demo-vocab.gguf")).unwrap().metadata()).unwrap()
}

#[test]
fn the_demo_models_template_equals_the_default() {
    let own = Tokenizer::new(demo_vocabulary()).unwrap();
    let without = Tokenizer::new(VocabData { chat_template: None, ..demo_vocabulary() }).unwrap();
    for tokenizer in [own, without] {
        let template = ChatTemplate::of(&tokenizer).unwrap();
        let text = template.render(&[Message::new("user", "What is 347 + 285?")], true).unwrap();
        assert_eq!(text, "<|im_start|>user\nWhat is 347 + 285?<|im_end|>\n<|im_start|>assistant\n");
        let ids = tokenizer.encode_chat(&text);
        assert_eq!(ids[..2], [0, 1]);
        assert_eq!(tokenizer.decode(&ids[1..], true), text);
    }
}

/// A template without text would drop what the user says.
#[test]
fn empty_template_counts_as_missing() {
    for empty in ["", " ", "\n", " \r\n\t"] {
        let data = VocabData { chat_template: Some(empty.to_owned()), ..demo_vocabulary() };
        let template = ChatTemplate::of(&Tokenizer::new(data).unwrap()).unwrap();
        let text = template.render(&[Message::new("user", "Hi")], true).unwrap();
        assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "{empty:?}");
        let path = fixtures().join("stories260K-vocab.gguf");
        let data = VocabData::from_metadata(Gguf::open(&path).unwrap().metadata()).unwrap();
        let data = VocabData { chat_template: Some(empty.to_owned()), ..data };
        let error = ChatTemplate::of(&Tokenizer::new(data).unwrap()).err().unwrap();
        assert!(matches!(error, TemplateError::Missing), "{empty:?}: {error}");
    }
}

#[test]
fn without_a_template_the_error_names_the_remedy() {
    let path = fixtures().join("stories260K-vocab.gguf");
    let data = VocabData::from_metadata(Gguf::open(&path).unwrap().metadata()).unwrap();
    let error = ChatTemplate::of(&Tokenizer::new(data).unwrap()).err().unwrap();
    assert!(matches!(error, TemplateError::Missing));
    assert_eq!(error.remedies(), [Remedy::PlainPrompt]);
}
