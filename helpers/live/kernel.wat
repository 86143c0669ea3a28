;; The one hot loop of the live figures: y = a·w + b, four floats at a time.
;;
;;   a  (m, k)  row-major float32, dense rows
;;   w  (k, n)  row-major float32
;;   b  (n)     float32
;;   y  (m, n)  row-major float32, overwritten
;;
;; Pointers are byte offsets into the imported memory. n must be a multiple of 4; k and m are free.
;; Every row of w is read once per row of a, in order, and four rows of w are added to y at a time, so
;; that y is loaded and stored once per four multiply-adds. engine.mjs holds the same loop in JavaScript
;; and the Python package rebuilds this file to check the bytes that engine.mjs carries.
(module
  (import "env" "memory" (memory 0))

  (func (export "gemm")
    (param $a i32) (param $w i32) (param $b i32) (param $y i32)
    (param $m i32) (param $k i32) (param $n i32)
    (local $bytes i32)   ;; one row of w, b or y
    (local $wk i32)      ;; the row of w that comes next
    (local $left i32)    ;; rows of w that are left
    (local $j i32)       ;; byte offset within a row
    (local $a0 v128) (local $a1 v128) (local $a2 v128) (local $a3 v128)
    (local $w1 i32) (local $w2 i32) (local $w3 i32)
    (local.set $bytes (i32.shl (local.get $n) (i32.const 2)))
    (block $done
      (br_if $done (i32.eqz (local.get $m)))
      (loop $row
        (memory.copy (local.get $y) (local.get $b) (local.get $bytes))
        (local.set $wk (local.get $w))
        (local.set $left (local.get $k))

        (block $tail
          (loop $four
            (br_if $tail (i32.lt_s (local.get $left) (i32.const 4)))
            (local.set $a0 (v128.load32_splat (local.get $a)))
            (local.set $a1 (v128.load32_splat offset=4 (local.get $a)))
            (local.set $a2 (v128.load32_splat offset=8 (local.get $a)))
            (local.set $a3 (v128.load32_splat offset=12 (local.get $a)))
            (local.set $w1 (i32.add (local.get $wk) (local.get $bytes)))
            (local.set $w2 (i32.add (local.get $w1) (local.get $bytes)))
            (local.set $w3 (i32.add (local.get $w2) (local.get $bytes)))
            (local.set $j (i32.const 0))
            (loop $column
              (v128.store (i32.add (local.get $y) (local.get $j))
                (f32x4.add
                  (v128.load (i32.add (local.get $y) (local.get $j)))
                  (f32x4.add
                    (f32x4.add
                      (f32x4.mul (local.get $a0) (v128.load (i32.add (local.get $wk) (local.get $j))))
                      (f32x4.mul (local.get $a1) (v128.load (i32.add (local.get $w1) (local.get $j)))))
                    (f32x4.add
                      (f32x4.mul (local.get $a2) (v128.load (i32.add (local.get $w2) (local.get $j))))
                      (f32x4.mul (local.get $a3) (v128.load (i32.add (local.get $w3) (local.get $j))))))))
              (br_if $column
                (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 16))) (local.get $bytes))))
            (local.set $a (i32.add (local.get $a) (i32.const 16)))
            (local.set $wk (i32.add (local.get $w3) (local.get $bytes)))
            (local.set $left (i32.sub (local.get $left) (i32.const 4)))
            (br $four)))

        (block $next
          (loop $one
            (br_if $next (i32.eqz (local.get $left)))
            (local.set $a0 (v128.load32_splat (local.get $a)))
            (local.set $j (i32.const 0))
            (loop $column
              (v128.store (i32.add (local.get $y) (local.get $j))
                (f32x4.add
                  (v128.load (i32.add (local.get $y) (local.get $j)))
                  (f32x4.mul (local.get $a0) (v128.load (i32.add (local.get $wk) (local.get $j))))))
              (br_if $column
                (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 16))) (local.get $bytes))))
            (local.set $a (i32.add (local.get $a) (i32.const 4)))
            (local.set $wk (i32.add (local.get $wk) (local.get $bytes)))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br $one)))

        (local.set $y (i32.add (local.get $y) (local.get $bytes)))
        (br_if $row (local.tee $m (i32.sub (local.get $m) (i32.const 1))))))))
