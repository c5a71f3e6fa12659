//! Output that appears complete or not at all.

use super::*;
use crate::files::NpyWriter;

fn names(folder: &Folder) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn complete() {
    let folder = Folder::new();
    let path = folder.path().join("o.npy");
    let many = vec![1; 40_000];
    for shape in [&[][..], &[5], &[0, 3], &[2, 3, 4], &[100_000], &many] {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| i as f32 * 0.5).collect();
        let mut writer = NpyWriter::create(&path, shape).unwrap();
        values.chunks(7).for_each(|chunk| writer.write(chunk).unwrap());
        writer.finish().unwrap();
        let source = folder.open("o.npy").unwrap();
        assert_eq!((source.shape(), source.dtype_name()), (shape, "float32"));
        let mut read = Vec::new();
        source.read_f64(0..count, &mut read).unwrap();
        assert!(read.iter().copied().eq(values.iter().map(|&value| f64::from(value))));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes.len() - count * 4) % 64, 0);
        assert_eq!(bytes[bytes.len() - count * 4 - 1], b'\n');
    }
    assert_eq!(names(&folder), ["o.npy"]);
}

#[test]
fn numpy_header_to_the_byte() {
    let folder = Folder::new();
    let path = folder.path().join("o.npy");
    let mut writer = NpyWriter::create(&path, &[2]).unwrap();
    writer.write(&[1.0, 2.0]).unwrap();
    writer.finish().unwrap();
    let mut expected = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }".to_vec();
    expected.resize(127, b' ');
    expected.push(b'\n');
    expected.extend([1.0f32, 2.0].map(f32::to_le_bytes).concat());
    assert_eq!(std::fs::read(&path).unwrap(), expected);
}

#[test]
fn incomplete_leaves_what_was_there() {
    let folder = Folder::new();
    let path = folder.put("o.npy", b"before");
    let mut writer = NpyWriter::create(&path, &[3]).unwrap();
    writer.write(&[1.0, 2.0]).unwrap();
    assert_eq!(folder.plain(&writer.write(&[3.0, 4.0]).unwrap_err()), "o.npy: 1 values too many for the shape [3]");
    assert_eq!(folder.plain(&writer.finish().unwrap_err()), "o.npy: 1 values are missing from the shape [3]");
    drop(NpyWriter::create(&path, &[3]).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
    assert_eq!(names(&folder), ["o.npy"]);
}

#[test]
fn fails_before_the_work() {
    let folder = Folder::new();
    let create = |name: &str| folder.plain(&NpyWriter::create(&folder.path().join(name), &[1]).unwrap_err());
    std::fs::create_dir(folder.path().join("folder.npy")).unwrap();
    assert_eq!(create("folder.npy"), "folder.npy: cannot write: there is something that is not a regular file");
    assert_eq!(create("gone/o.npy"), "gone/o.npy: cannot write: no file can be made in its folder: entity not found");
    let path = folder.put("kept.npy", b"");
    let mut permissions = path.metadata().unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    assert_eq!(create("kept.npy"), "kept.npy: cannot write: the file that is there is read-only");
    assert!(NpyWriter::create(&folder.path().join("o.npy"), &[usize::MAX, 2]).is_err());
    assert_eq!(names(&folder), ["folder.npy", "kept.npy"]);
}

#[cfg(unix)]
#[test]
fn links_and_permissions_are_those_of_a_plain_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let write = |name: &str| {
        let mut writer = NpyWriter::create(&folder.path().join(name), &[1]).unwrap();
        writer.write(&[1.0]).unwrap();
        writer.finish().unwrap();
    };
    write("o.npy");
    let plain = folder.put("plain", b"");
    assert_eq!(
        folder.path().join("o.npy").metadata().unwrap().permissions().mode(),
        plain.metadata().unwrap().permissions().mode()
    );
    std::os::unix::fs::symlink("plain", folder.path().join("link.npy")).unwrap();
    write("link.npy");
    assert!(folder.path().join("link.npy").is_symlink());
    assert_eq!(plain.metadata().unwrap().len(), 132);
    assert!(NpyWriter::create(Path::new("/dev/null"), &[1]).is_err());
}
